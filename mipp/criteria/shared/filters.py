"""The weights that make a layer's outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput
from mipp.selection.scores import GroupScores


def filters_of(module: nn.Module) -> Tensor | None:
    """Weights (out features, in features * kernel) of a producer, None for one without.

    An attention's are those of its projection to query, key and value.
    """
    name = _weight_of(module)
    return None if name is None else module.get_parameter(name).detach().flatten(1)


def weight_names(model: nn.Module) -> dict[str, str]:
    """By module, the full name of the weight that makes its outputs."""
    found = {}
    for name, module in model.named_modules():
        weight = _weight_of(module)
        if weight is not None:
            found[name] = f"{name}.{weight}" if name else weight
    return found


def sum_over_filters(given: CriterionInput, values: Mapping[str, Tensor]) -> GroupScores:
    """Per unit, the sum of a value per weight over the rows that make it.

    Parameters
    ----------
    values : by full name of the weight, of its shape.
    """
    names, scores = weight_names(given.model), {}
    for name, group in given.graph.groups.items():
        scores[name] = np.zeros(group.width)
        for member in group.producers:
            if member.module in names:
                rows = values[names[member.module]].detach().double().flatten(1).sum(1)
                scores[name] += rows.cpu().numpy()[member.features].sum(1)
    return scores


def _weight_of(module: nn.Module) -> str | None:
    if isinstance(module, nn.MultiheadAttention):
        return "in_proj_weight" if module.in_proj_weight is not None else None
    convs = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return "weight" if isinstance(module, convs) else None
