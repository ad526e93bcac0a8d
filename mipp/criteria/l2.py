"""L2 norm of a unit's weights (compared with L1 by Li et al. 2017, arXiv:1608.08710v3 §4.4)."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput, sum_over_producers
from mipp.criteria.shared.filters import filters_of
from mipp.selection.scores import GroupScores


def score_l2(given: CriterionInput) -> GroupScores:
    """Euclidean norm of all incoming weights of a unit, those of coupled layers in one vector."""
    return {
        name: np.sqrt(sum_over_producers(group, given.model, _squares))
        for name, group in given.graph.groups.items()
    }


def _squares(module: nn.Module) -> Tensor | None:
    weights = filters_of(module)
    return None if weights is None else weights.double().square().sum(1)
