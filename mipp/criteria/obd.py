"""Optimal brain damage (LeCun et al. 1990) with the Fisher information for the Hessian."""

from __future__ import annotations

import torch

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.filters import sum_over_filters, weight_names
from mipp.criteria.shared.image_slopes import image_slopes
from mipp.criteria.shared.unit_gates import parameters_of
from mipp.selection.scores import GroupScores

IMAGES = 512  # each has a backward pass of its own


def score_obd(given: CriterionInput) -> GroupScores:
    """Half of the squared weight times the diagonal of the Hessian, summed over a unit's weights.

    The diagonal is the mean squared gradient of the loss of single images, which is the
    empirical Fisher information.

    Departs: the paper computes the diagonal by a second backward pass and prunes single weights.
    """
    parameters = parameters_of(given.model)
    weights = {name: parameters[name].detach() for name in weight_names(given.model).values()}
    squares = [torch.zeros_like(weight) for weight in weights.values()]
    images = 0
    for slopes in image_slopes(given, [*weights], IMAGES):
        images += 1
        for one, slope in zip(squares, slopes, strict=True):
            one.addcmul_(slope, slope)
    values = {
        name: weight.square() * total / (2 * images)
        for (name, weight), total in zip(weights.items(), squares, strict=True)
    }
    return sum_over_filters(given, values)
