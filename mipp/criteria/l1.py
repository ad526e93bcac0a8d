"""L1 norm of a unit's weights (Li et al. 2017, arXiv:1608.08710v3)."""

from __future__ import annotations

from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput, sum_over_producers
from mipp.criteria.shared.filters import filters_of
from mipp.selection.scores import GroupScores


def score_l1(given: CriterionInput) -> GroupScores:
    """Sum of absolute incoming weights per unit, added up over coupled layers."""
    return {
        name: sum_over_producers(group, given.model, _norms)
        for name, group in given.graph.groups.items()
    }


def _norms(module: nn.Module) -> Tensor | None:
    weights = filters_of(module)
    return None if weights is None else weights.abs().sum(1)
