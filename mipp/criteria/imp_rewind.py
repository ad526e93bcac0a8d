"""Iterative magnitude pruning with rewinding to an early step (Frankle et al. 2020)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mipp.criteria.imp import DESCENT, score_by_rewinding, train_gated
from mipp.criteria.shared.criterion import CriterionInput
from mipp.selection.scores import GroupScores

REWIND = 0.5  # passes; a round trains for one


def score_imp_rewind(given: CriterionInput) -> GroupScores:
    """Order in which units leave when every round begins at the weights of an early step.

    The dense network is trained for half a pass; every round of `imp` then rewinds to these
    weights instead of those of the beginning.

    Source: arXiv:1912.05671, after arXiv:1803.03635. Departs: as `imp` does, and a round trains
    for its whole pass from there, where the paper trains what is left of the schedule.
    """
    whole = {name: np.ones(width, bool) for name, width in given.graph.widths.items()}
    early = train_gated(given, whole, replace(DESCENT, passes=REWIND))
    return score_by_rewinding(given, early)
