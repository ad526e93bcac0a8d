"""Model folding (Wang et al. 2025, ICLR) with REPAIR (Jordan et al. 2023, arXiv:2211.08403v3)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.readers import cut, lost, weight_of, write
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.filters import filters_of
from mipp.graph import ChannelGroup, Member
from mipp.layers import layer_at
from mipp.refit import recalibrate
from mipp.selection.selection import Selection

STARTS = 10  # of k-means


def fold(given: CriterionInput, widths: Selection) -> tuple[nn.Module, Selection]:
    """The network cut, and the units that stand for their clusters: as many as `widths` says.

    Filters of a layer are clustered by k-means; a cluster becomes one filter, the mean of its
    own, and the reader's weights for it are the sum. What follows is REPAIR where batch-norms
    are: their statistics, taken anew.

    Source: section 3, as in the authors' code (nanguoyu/model-folding-universal, core).
    """
    model, kept = copy.deepcopy(given.model), dict(widths.kept)
    for pair in lost(given.graph, widths):
        group = given.graph.groups[pair.group]
        labels = clusters(_filters(model, group), len(kept[pair.group]), given.seed)
        first = np.array([np.flatnonzero(labels == c)[0] for c in np.unique(labels)])
        for member in (*group.producers, *group.passengers):
            _average(model, member, labels)
        weight = weight_of(model, pair)
        after = torch.zeros_like(weight)
        after.index_add_(1, torch.from_numpy(first[labels]), weight)
        write(model, given.graph, pair, after, weight.new_zeros(len(weight)))
        kept[pair.group] = np.sort(first)
    selection = Selection(kept, widths.width, "folding", widths.provenance)
    pruned = cut(model, selection, given)
    recalibrate(pruned, given.inputs())
    return pruned, selection


def clusters(filters: Tensor, count: int, seed: int) -> np.ndarray:
    """The cluster of each filter, 0 to count - 1, by k-means on filters (channels, weights)."""
    from sklearn.cluster import KMeans  # a second of import

    found = KMeans(count, n_init=STARTS, random_state=seed).fit(filters.numpy())
    return np.asarray(found.labels_)


def _filters(model: nn.Module, group: ChannelGroup) -> Tensor:
    """All weights that make each channel, (channels, weights)."""
    parts = []
    for member in group.producers:
        weights = filters_of(model.get_submodule(member.module))
        if weights is not None:
            parts.append(weights.double()[torch.from_numpy(member.features)].flatten(1))
    return torch.cat(parts, 1)


def _average(model: nn.Module, member: Member, labels: np.ndarray) -> None:
    """Every output of a layer becomes the mean of its cluster, in place."""
    layer = layer_at(model, member.module)
    with torch.no_grad():
        for name, axis in layer.outputs.tensors.items():
            tensor = getattr(layer.module, name)
            if tensor is None:
                continue
            rows = tensor.movedim(axis, 0)
            for label in np.unique(labels):
                own = torch.from_numpy(member.features[labels == label])  # (cluster, block)
                rows[own] = rows[own].mean(0, keepdim=True).expand_as(rows[own])
