"""Growing regularisation with a fixed choice (GReg-1, Wang et al. 2021, arXiv:2012.09243)."""

from __future__ import annotations

from functools import partial

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.driving import decay, score_by_driving
from mipp.criteria.shared.unit_weights import Makers
from mipp.selection.scores import GroupScores


def score_greg_1(given: CriterionInput) -> GroupScores:
    """Order in which units leave when an L2 penalty on the smallest grows until they are zero.

    Which units these are is decided by their L1 norm before the penalty begins; the others adapt
    as it grows. Norms are divided by their mean over the group.

    Departs: as no budget is known, it is done in 5 rounds, each of which chooses anew by the
    norms as they are by then; the penalty acts as a factor on the weights after every step.
    """
    makers = Makers(given)
    return score_by_driving(given, makers.magnitudes, partial(decay, makers))
