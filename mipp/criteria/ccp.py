"""Collaborative channel pruning: channels leave together by a quadratic form (Peng et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.image_gates import slopes_by_image
from mipp.criteria.shared.order import scores_of_order
from mipp.criteria.shared.samples import mean_over_images
from mipp.criteria.shared.unit_gates import differentiable
from mipp.inputs import Inputs
from mipp.selection.scores import GroupScores

Slopes = npt.NDArray[np.float64]  # (width,)
Curvature = npt.NDArray[np.float64]  # (width, width)


def score_ccp(given: CriterionInput) -> GroupScores:
    """Order in which channels leave when those whose loss as a whole is least go first.

    The loss without a set of channels is expanded to second order in their gates; its Hessian is
    the mean product of the slopes of single images, which for cross entropy is its part of first
    derivatives. Channels leave one by one, each time the one with which the expansion for all
    that have left is least; ties go to the lower index.

    Source: Peng et al. 2019, ICML (PMLR 97:5113). Departs: greedy, so that one order serves every
    budget, where the paper solves a 0-1 quadratic programme for each layer's number.
    """
    return {
        name: scores_of_order(leaving_order(slope, curvature))
        for name, (slope, curvature) in expansions(given).items()
    }


def expansions(given: CriterionInput) -> dict[str, tuple[Slopes, Curvature]]:
    """By group, first and second derivatives of the loss by its gates."""

    def sums(inputs: Inputs, labels: Tensor) -> Sequence[Tensor]:
        slopes = slopes_by_image(given, inputs, labels)
        return [*(s.sum(0) for s in slopes), *(s.T @ s for s in slopes)]

    with differentiable(given.model):
        means = [mean.cpu().numpy() for mean in mean_over_images(given, sums)]
    groups = list(given.graph.groups)
    both = zip(means[: len(groups)], means[len(groups) :], strict=True)
    return dict(zip(groups, both, strict=True))


def leaving_order(slope: Slopes, curvature: Curvature) -> list[int]:
    """Channels in greedy order."""
    left: list[int] = []
    cost = curvature.diagonal() / 2 - slope  # what each adds to the change by all that left
    for _ in slope:
        channel = int(np.argmin(cost))
        left.append(channel)
        cost = cost + curvature[channel]
        cost[left] = np.inf
    return left
