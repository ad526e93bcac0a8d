"""Which layers' inputs a pruned network is to have in common with the dense one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mipp.graph import ChannelGraph
from mipp.hooked_mode import hooked
from mipp.layers import layer_at
from mipp.selection.selection import Selection

Features = Mapping[str, Tensor | None]  # layer -> those of its input that count; None for all


def matched_layers(graph: ChannelGraph) -> list[str]:
    """The later half of the layers that read channels which others read too, as along streams.

    Of a network without such streams, of all consumers. Layers that run more than once, or for some
    inputs only, are left out. The early half binds a network to what the later one may do without.

    >>> from mipp.graph import build_graph
    >>> chain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 9), nn.Linear(9, 3)).eval()
    >>> matched_layers(build_graph(chain, torch.randn(1, 8)))
    ['3']
    """
    consumers = {group: [pair.consumer for pair in graph.pairs_of(group)] for group in graph.groups}
    streams = [names for names in consumers.values() if len(names) > 1] or consumers.values()
    once = {name for names in streams for name in names} - graph.repeated - graph.varying
    ordered = [cost.module for cost in graph.costs if cost.module in once]
    return ordered[len(ordered) // 2 :]


def kept_features(dense: nn.Module, graph: ChannelGraph, selection: Selection) -> Features:
    """Matched layer -> the features of its input, in the dense network, that the pruned one has."""
    found: dict[str, Tensor] = {}
    for name in matched_layers(graph):
        kept = np.arange(layer_at(dense, name).inputs.features)
        for pair in (pair for pair in graph.pairs if pair.consumer == name):
            gone = pair.features[selection.dropped(pair.group)]
            kept = np.setdiff1d(kept, gone)
        found[name] = torch.from_numpy(kept)
    return found


@contextmanager
def inputs_caught(model: nn.Module, layers: Features) -> Iterator[dict[str, Tensor]]:
    """Within the block, what these layers read in the latest pass, by name."""
    caught: dict[str, Tensor] = {}

    def hook_of(name: str, features: Tensor | None) -> Any:
        layer = layer_at(model, name)

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            x, _ = layer.sides(inputs, output)
            if features is None:
                caught[name] = x.clone()  # what comes after may write into it
            else:
                caught[name] = x.index_select(layer.axis_of(x.shape), features.to(x.device))

        return layer.module.register_forward_hook(hook)

    with hooked(hook_of(name, features) for name, features in layers.items()):
        yield caught
