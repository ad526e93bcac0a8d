"""Gradients of the loss of single images, one backward pass each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import labelled_images
from mipp.criteria.shared.unit_gates import differentiable, run_with, tensors_of
from mipp.inputs import Inputs, count, each


def image_slopes(
    given: CriterionInput, names: Sequence[str], images: int
) -> Iterator[tuple[Tensor, ...]]:
    """Per image of the first ones: the gradients of its loss by the parameters of these names."""
    tensors = tensors_of(given.model)
    weights = [tensors[name].requires_grad_(True) for name in names]
    with differentiable(given.model):
        for image, label in single_images(given, images):
            loss = given.mean_loss(run_with(given.model, tensors, image), label)
            yield torch.autograd.grad(loss, weights, materialize_grads=True)


def single_images(given: CriterionInput, images: int) -> Iterator[tuple[Inputs, Tensor]]:
    """The first images, batches of one each."""
    for inputs, labels in labelled_images(given, images):
        for i in range(count(inputs)):
            yield each(inputs, partial(_one, i=i)), labels[i : i + 1]


def _one(x: Tensor, i: int) -> Tensor:
    return x[i : i + 1]
