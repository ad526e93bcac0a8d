"""L1 norm of a unit's weights (Li et al. 2017, arXiv:1608.08710v3)."""

from __future__ import annotations

from torch import Tensor, nn

from mipp.criteria.criterion import CriterionInput, sum_over_producers
from mipp.selection.budget import Scores


def score_l1(given: CriterionInput) -> Scores:
    """Sum of absolute incoming weights per unit, added up over coupled layers."""
    return {
        name: sum_over_producers(group, given.model, _norms)
        for name, group in given.graph.groups.items()
    }


def _norms(module: nn.Module) -> Tensor | None:
    if isinstance(module, nn.MultiheadAttention):
        return module.in_proj_weight.abs().sum(1)
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
        return None
    return module.weight.abs().flatten(1).sum(1)
