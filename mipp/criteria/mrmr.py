"""Most relevance, least redundancy (mRMR, Peng, Long and Ding 2005, IEEE TPAMI 27(8))."""

from __future__ import annotations

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.taking import Values, score_by_taking
from mipp.selection.scores import GroupScores


def score_mrmr(given: CriterionInput) -> GroupScores:
    """Order of taking by information with the next layer, less the mean with the units taken.

    Nothing is asked about what a unit adds to the others together, as MIPP's test does.

    Source: Peng et al. 2005, eq. (6). Departs: the target is the next layer, not the class.
    """
    return score_by_taking(given, _mean)


def _mean(shared: Values, taken: int) -> Values:
    return shared / max(taken, 1)
