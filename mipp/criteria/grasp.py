"""Gradient signal preservation (GraSP, Wang et al. 2020, arXiv:2002.07376)."""

from __future__ import annotations

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.filters import sum_over_filters
from mipp.criteria.shared.unit_gates import Gates
from mipp.criteria.shared.weight_loss import WeightLoss
from mipp.selection.scores import GroupScores

TEMPERATURE = 200.0  # of the authors' code: outputs are divided by it


def score_grasp(given: CriterionInput) -> GroupScores:
    """Half of what the gradient's squared norm loses, to first order, with a unit's weights.

    That is weight times (Hessian times gradient), summed over the weights that make the unit;
    gradient and Hessian are by the weights of all convolutions and linear layers. A unit whose
    removal makes the gradient larger has a score below zero and goes first.

    Departs: whole units are scored, on all calibration images instead of some of each class,
    and the last layer keeps its weights, which the authors' code draws anew.
    """
    return gradient_flow(given, None, None)


def gradient_flow(given: CriterionInput, gates: Gates | None, images: int | None) -> GroupScores:
    """The score with units gated, over the first images; None: all open, all images."""
    loss = WeightLoss(given, gates, images=images, temperature=TEMPERATURE)
    product = loss.hessian_times(loss.gradient())
    values = {name: weight.detach() * product[name] for name, weight in loss.weights.items()}
    return sum_over_filters(given, values)
