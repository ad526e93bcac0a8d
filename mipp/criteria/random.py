"""Units in random order: the control that every criterion has to beat."""

from __future__ import annotations

import numpy as np

from mipp.criteria.shared.criterion import CriterionInput
from mipp.selection.scores import GroupScores


def score_random(given: CriterionInput) -> GroupScores:
    """Independent uniform scores, fixed by the seed."""
    generator = np.random.default_rng(given.seed)
    return {name: generator.random(group.width) for name, group in given.graph.groups.items()}
