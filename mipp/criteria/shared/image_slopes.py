"""Gradients of the loss of single images, one backward pass each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import labelled_images
from mipp.criteria.shared.unit_gates import (
    differentiable,
    parameters_of,
    run_with,
    tensors_of,
)
from mipp.device import free_bytes
from mipp.errors import DataError
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


def slopes_by_layer(
    given: CriterionInput, names: Sequence[str], images: int, method: str
) -> Iterator[tuple[str, Tensor]]:
    """One parameter after the other: the gradients of all images by it, (n, *shape), float64.

    Raises
    ------
    DataError : those of all layers do not fit the memory, thrice their bytes.
    """
    parameters = parameters_of(given.model)
    _require_room(given, [parameters[name] for name in names], images, method)
    each = list(image_slopes(given, names, images))
    slopes = {name: torch.stack([row[i] for row in each]) for i, name in enumerate(names)}
    del each
    for name in names:
        yield name, slopes.pop(name).double()


def _require_room(
    given: CriterionInput, weights: Sequence[Tensor], images: int, method: str
) -> None:
    need = 3 * images * sum(weight.nbytes for weight in weights)
    free = free_bytes(weights[0].device) if weights else None
    if free is not None and need > free:
        raise DataError(
            f"{method} holds the gradients of {images} images by every weight of "
            f"{type(given.model).__name__}.\nExpected {need / 2**30:.1f} GiB of free memory, got "
            f"{free / 2**30:.1f}; take obd, which holds their squares alone."
        )


def single_images(given: CriterionInput, images: int) -> Iterator[tuple[Inputs, Tensor]]:
    """The first images, batches of one each."""
    for inputs, labels in labelled_images(given, images):
        for i in range(count(inputs)):
            yield each(inputs, partial(_one, i=i)), labels[i : i + 1]


def _one(x: Tensor, i: int) -> Tensor:
    return x[i : i + 1]
