"""Greedy removal by the next layer's reconstruction (ThiNet, Luo et al. 2017)."""

from __future__ import annotations

import numpy as np

from mipp.criteria.shared.contributions import Gram, contribution_grams
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.order import scores_of_order
from mipp.selection.scores import GroupScores


def score_thinet(given: CriterionInput) -> GroupScores:
    """Order in which channels leave when those that the next layer misses least go first.

    Channels leave one by one, each time the one with which the summed contribution of all that
    left has the least mean square; ties go to the lower index.

    Source: arXiv:1707.06342v1 section 3.2, eq. (6) and algorithm 1. Departs: the paper samples
    one output channel per position, here all count, which has the same expectation; of a group
    that several layers read their errors are added up. The paper's least-squares scale of the
    remaining channels is left to the refit after the cut.
    """
    grams = contribution_grams(given)
    return {name: scores_of_order(leaving_order(gram)) for name, gram in grams.items()}


def leaving_order(gram: Gram) -> list[int]:
    """Channels in greedy order, from the products of their contributions."""
    left: list[int] = []
    cost = gram.diagonal().copy()  # what the sum's square grows by with each channel
    for _ in range(len(gram)):
        channel = int(np.argmin(cost))
        left.append(channel)
        cost += 2 * gram[channel]
        cost[left] = np.inf
    return left
