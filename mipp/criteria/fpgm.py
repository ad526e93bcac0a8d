"""Distance of a unit's weights from those of its layer (FPGM, He et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput, sum_over_producers
from mipp.criteria.shared.filters import filters_of
from mipp.selection.scores import GroupScores


def score_fpgm(given: CriterionInput) -> GroupScores:
    """Sum of the Euclidean distances from a filter to all others, as a share of the group's mean.

    The filter nearest the layer's geometric median, which the others can replace, goes first. A
    linear layer's filters are the rows of its weight; those of coupled layers are added up.

    Source: arXiv:1811.00250v3 section 3.3, eq. (6). Departs: divided by the mean, so that layers
    of different sizes compare (the paper prunes every layer by the same ratio; within a layer
    the order is the same).
    """
    sums = {
        name: sum_over_producers(group, given.model, _distances)
        for name, group in given.graph.groups.items()
    }
    return {name: values / (values.mean() or 1.0) for name, values in sums.items()}


def _distances(module: nn.Module) -> Tensor | None:
    weights = filters_of(module)
    if weights is None:
        return None
    weights = weights.double()
    return torch.cdist(weights, weights).sum(1)
