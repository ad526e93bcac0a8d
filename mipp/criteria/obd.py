"""Optimal brain damage (LeCun et al. 1990) with the Fisher information for the Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.filters import sum_over_filters, weight_names
from mipp.criteria.shared.samples import mean_over_images
from mipp.criteria.shared.unit_gates import differentiable, run_with, tensors_of
from mipp.inputs import Inputs, count, each
from mipp.selection.scores import GroupScores

IMAGES = 512  # each has a backward pass of its own


def score_obd(given: CriterionInput) -> GroupScores:
    """Half of the squared weight times the diagonal of the Hessian, summed over a unit's weights.

    The diagonal is the mean squared gradient of the loss of single images, which is the
    empirical Fisher information.

    Departs: the paper computes the diagonal by a second backward pass and prunes single weights.
    """
    tensors = tensors_of(given.model)
    names = list(weight_names(given.model).values())
    weights = [tensors[name].requires_grad_(True) for name in names]

    def squares(inputs: Inputs, labels: Tensor) -> Sequence[Tensor]:
        total = [torch.zeros_like(weight) for weight in weights]
        for i in range(count(inputs)):
            outputs = run_with(given.model, tensors, each(inputs, partial(_one, i=i)))
            loss = given.mean_loss(outputs, labels[i : i + 1])
            slopes = torch.autograd.grad(loss, weights, materialize_grads=True)
            for one, slope in zip(total, slopes, strict=True):
                one.addcmul_(slope, slope)
        return total

    with differentiable(given.model):
        fisher = mean_over_images(given, squares, IMAGES)
    values = {
        name: weight.detach().square() * f / 2
        for name, weight, f in zip(names, weights, fisher, strict=True)
    }
    return sum_over_filters(given, values)


def _one(x: Tensor, i: int) -> Tensor:
    return x[i : i + 1]
