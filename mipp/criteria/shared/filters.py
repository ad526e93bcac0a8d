"""The weights that make a layer's outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput
from mipp.layers import layer_at, layer_of
from mipp.selection.scores import GroupScores


def filters_of(module: nn.Module) -> Tensor | None:
    """Weights (out features, in features * kernel) of a producer, None for one without.

    An attention's are those of its projection to query, key and value.
    """
    layer = layer_of(module)
    if layer is None or layer.filters is None:
        return None
    return layer.by_output(getattr(module, layer.filters).detach())


def weight_names(model: nn.Module) -> dict[str, str]:
    """By module, the full name of the weight that makes its outputs."""
    found = {}
    for name, module in model.named_modules():
        layer = layer_of(module)
        if layer is not None and layer.filters is not None:
            found[name] = f"{name}.{layer.filters}" if name else layer.filters
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
                layer = layer_at(given.model, member.module)
                rows = layer.by_output(values[names[member.module]].detach().double()).sum(1)
                scores[name] += rows.cpu().numpy()[member.features].sum(1)
    return scores
