"""Mutual information feature selection (MIFS, Battiti 1994, IEEE TNN 5(4))."""

from __future__ import annotations

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.taking import Values, score_by_taking
from mipp.selection.scores import GroupScores

BETA = 0.5  # the paper finds 0.5 to 1 appropriate


def score_mifs(given: CriterionInput) -> GroupScores:
    """Order of taking by information with the next layer, less `BETA` times the sum with the taken.

    The sum grows with the number of units taken while the relevance does not, so that late
    choices are made by redundancy alone; mRMR's mean mends that.

    Source: Battiti 1994, section IV. Departs: the target is the next layer, not the class.
    """
    return score_by_taking(given, _weighted_sum)


def _weighted_sum(shared: Values, taken: int) -> Values:
    return BETA * shared
