"""What the dense network puts out at the layers that are to be fitted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mipp.activations.capture import Tap
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph
from mipp.inputs import call
from mipp.layers import layer_at
from mipp.refit.sharing import Chunks
from mipp.refit.watcher import Watcher
from mipp.selection.selection import Selection


class Wanted(NamedTuple):
    """Rows of one call of a layer in the dense network, on the channels that the pruned one has."""

    at: Tensor  # positions (images, rows)
    output: Tensor  # (rows, kept)
    made: torch.Size  # of the whole output, in the dense network


@dataclass
class Targets:
    """What one layer puts out in the dense network, by the chunk of the inputs."""

    calls: dict[int, list[Wanted]] = field(default_factory=dict)
    other: dict[int, Tensor] = field(default_factory=dict)  # what it is added to, if it is


def dense_targets(
    dense: nn.Module,
    graph: ChannelGraph,
    selection: Selection,
    names: Sequence[str],
    chunks: Chunks,
) -> dict[str, Targets]:
    """By layer, in the order of their last calls."""
    pairs = {pair.consumer: pair for pair in graph.pairs}
    positions = {name: pairs[name].positions for name in names if name in graph.repeated}
    taps = {
        name: Tap(layer_at(dense, name), chunks.sampling_at(name), i, positions.get(name))
        for i, name in enumerate(names)
        if name in chunks.fitted
    }
    summed = _summed(dense, graph, taps)
    found: dict[str, Targets] = {}

    def sample(name: str, values: Tensor, at: Tensor) -> Tensor:
        kept = torch.from_numpy(pairs[name].rows_kept(selection.kept))
        return taps[name].outputs(values, at)[:, kept.to(values.device)]

    def on_output(name: str, inputs: Tensor, output: Tensor) -> None:
        found[name] = found.pop(name, Targets())  # after what runs before its last call
        at = taps[name].draw(output)
        wanted = Wanted(at, sample(name, output, at), output.shape)
        found[name].calls.setdefault(number, []).append(wanted)

    def on_sum(name: str, other: Tensor) -> None:
        found[name].other[number] = sample(name, other, found[name].calls[number][-1].at)

    with evaluating(dense), torch.no_grad():
        for number, inputs in enumerate(chunks.inputs()):
            for tap in taps.values():
                tap.restart()
            here = [name for name in taps if number < chunks.fitted[name]]
            with Watcher(dense, graph, here, summed & set(here), on_output, on_sum):
                call(dense, inputs)
    return found


def _summed(dense: nn.Module, graph: ChannelGraph, names: Collection[str]) -> set[str]:
    """Layers that make up for the other side of a sum.

    Of two layers that could, it is the one with more inputs.
    """
    partners = {name: graph.sums[name] for name in names if name in graph.sums}
    return {
        name
        for name, other in partners.items()
        if other not in partners or _fan_in(dense, name) > _fan_in(dense, other)
    }


def _fan_in(model: nn.Module, name: str) -> tuple[int, str]:
    """Inputs of each output of a layer; its name, so that no two layers are equal."""
    linear = layer_at(model, name).map
    assert linear is not None
    return linear.weight[0].numel(), name
