"""What the dense network puts out at the layers that are to be fitted, one layer after the other.

Dense chunk:   conv1, waits ... its rows are asked for ... conv2, waits ...
Pruned chunk:         conv1 asks, is fitted, goes on .......... conv2 asks ...
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mipp.activations.capture import Tap
from mipp.evaluation import borrowed_called
from mipp.graph import ChannelGraph
from mipp.inputs import Inputs, call
from mipp.layers import layer_at
from mipp.refit.lockstep import Held
from mipp.refit.sharing import Chunks
from mipp.refit.watcher import Watcher
from mipp.selection.selection import Selection


class Wanted(NamedTuple):
    """Rows of one call of a layer in the dense network, on the channels that the pruned one has."""

    at: Tensor  # positions (images, rows)
    output: Tensor  # (rows, kept)
    made: torch.Size  # of the whole output, in the dense network


@dataclass
class Target:
    """What one layer puts out in a pass over the dense network."""

    calls: list[Wanted] = field(default_factory=list)
    other: Tensor | None = None  # what it is added to, if it is


class Dense:
    """The dense network, and which rows of it are wanted."""

    def __init__(
        self,
        model: nn.Module,
        graph: ChannelGraph,
        selection: Selection,
        names: Sequence[str],
        chunks: Chunks,
    ) -> None:
        self.model, self.graph, self.chunks = model, graph, chunks
        self.order = [name for name in chunks.fitted if name in names]  # of layers' last calls
        self.summed = _summed(model, graph, self.order)
        self._streams = {name: stream for stream, name in enumerate(names)}
        pairs = {pair.consumer: pair for pair in graph.pairs}
        self._kept = {
            name: torch.from_numpy(pairs[name].rows_kept(selection.kept)) for name in self.order
        }
        self._positions = {name: pairs[name].positions for name in graph.repeated & pairs.keys()}

    def taps(self, names: Collection[str], first: int) -> Mapping[str, Tap]:
        """What reads the rows of a pass.

        Parameters
        ----------
        first : number of its first image.
        """
        samplings = {name: replace(self.chunks.sampling_at(name), first=first) for name in names}
        return {
            name: Tap(
                layer_at(self.model, name), sampling, self._streams[name], self._positions.get(name)
            )
            for name, sampling in samplings.items()
        }

    def rows(self, name: str, tap: Tap, values: Tensor, at: Tensor) -> Tensor:
        """Of the channels that the pruned network has."""
        return tap.outputs(values, at)[:, self._kept[name].to(values.device)]


class DensePass:
    """A pass over the dense network that runs as far as its rows are asked for.

    What a layer puts out is known after its call, or after the sum that its output goes into; of
    one that runs several times, when the pass has ended.

    Parameters
    ----------
    names : of the layers whose rows will be asked for.
    first : number of the first image.
    """

    def __init__(self, dense: Dense, names: Collection[str], first: int, inputs: Inputs) -> None:
        self._dense, self._inputs = dense, inputs
        self._taps = dense.taps(names, first)
        self._summed = dense.summed & set(names)
        self._targets: dict[str, Target] = {}
        self._known: set[str] = set()
        self._ended = False
        self._held = Held(lambda _: self._run())

    def target(self, name: str) -> Target | None:
        """What a layer puts out; None where the pass does not reach it."""
        while name not in self._known and not self._ended:
            self._held.resume()
            self._ended = self._held.at is None
        return self._targets.get(name)

    def forget(self, name: str) -> None:
        """A layer's rows are not asked for again, nor held here."""
        target = self._targets.pop(name)
        target.calls.clear()
        target.other = None

    def end(self) -> None:
        """Nothing more is asked for."""
        self._held.end()

    def _run(self) -> None:
        dense = self._dense
        hooks = self._on_output, self._on_sum
        with (  # this thread's own
            torch.no_grad(),
            borrowed_called(dense.model),
            Watcher(dense.model, dense.graph, self._taps, self._summed, *hooks),
        ):
            call(dense.model, self._inputs)

    def _on_output(self, name: str, inputs: Tensor, output: Tensor) -> None:
        if name in self._known:  # runs again, which the graph has not seen
            return
        tap = self._taps[name]
        at = tap.draw(output)
        calls = self._targets.setdefault(name, Target()).calls
        calls.append(Wanted(at, self._dense.rows(name, tap, output, at), output.shape))
        if name not in self._summed and name not in self._dense.graph.repeated:
            self._wait(name)

    def _on_sum(self, name: str, other: Tensor) -> None:
        target = self._targets[name]
        at = target.calls[-1].at
        target.other = self._dense.rows(name, self._taps[name], other, at)
        self._wait(name)

    def _wait(self, name: str) -> None:
        self._known.add(name)
        self._held.wait(name)


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
