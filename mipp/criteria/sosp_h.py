"""Second-order structured pruning (SOSP-H, Nonnenmacher et al. 2022, arXiv:2110.11395)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.filters import sum_over_filters, weight_names
from mipp.criteria.shared.weight_loss import WeightLoss
from mipp.layers import layer_at
from mipp.selection.scores import GroupScores


def score_sosp_h(given: CriterionInput) -> GroupScores:
    """First-order change of the loss without a unit, plus half of its second-order one.

    Per unit |weights . gradient| + |weights . H v| / 2, where the vector v holds the weights of
    all units that can be removed and 0 elsewhere: the second term is the unit's share, with its
    correlations with all others, of what removing everything would change.
    """
    loss = WeightLoss(given)
    weights = {name: weight.detach() for name, weight in loss.weights.items()}
    first = sum_over_filters(given, _products(weights, loss.gradient()))
    bent = loss.hessian_times(_of_units(given, weights))
    second = sum_over_filters(given, _products(weights, bent))
    return {name: np.abs(first[name]) + np.abs(second[name]) / 2 for name in first}


def _products(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight * values[name] for name, weight in weights.items()}


def _of_units(given: CriterionInput, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights, those that make no unit being 0."""
    names = weight_names(given.model)
    kept = {
        name: torch.zeros(weight.shape, device="cpu").to(weight) for name, weight in weights.items()
    }
    for group in given.graph.groups.values():
        for member in group.producers:
            if member.module in names:
                name = names[member.module]
                layer, whole = layer_at(given.model, member.module), weights[name]
                places = torch.arange(whole.numel(), device=whole.device).view(whole.shape)
                rows = torch.from_numpy(member.features.ravel()).to(whole.device)
                mine = layer.by_output(places)[rows]
                kept[name].view(-1)[mine] = whole.flatten()[mine]
    return kept
