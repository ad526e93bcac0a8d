"""The fits of all layers in one pass over both networks, all batches side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mipp.evaluation import borrowed_called
from mipp.graph import ChannelGraph
from mipp.graph.tied import sharing
from mipp.inputs import Inputs, call, count
from mipp.layers import Layer, layer_at
from mipp.process.allocator import FreedMemory
from mipp.refit.dense_targets import Dense, DensePass, Wanted
from mipp.refit.least_squares import LayerFit
from mipp.refit.linear_part import LinearPart, linear_part
from mipp.refit.lockstep import Held
from mipp.refit.rebase import NormInputs, see_instead
from mipp.refit.watcher import Watcher


class Seen(NamedTuple):
    """Sampled rows of a layer in the pruned network, and of what decides about its outputs."""

    part: LinearPart | None  # what can be fitted of the layer
    at: Tensor  # positions
    x: Tensor  # of its inputs
    now: Tensor | None  # of its outputs; None where they are those of its map
    rest: Tensor | None  # of what it puts out beside its linear map
    output: Tensor  # of the dense network's outputs
    sides: tuple[Tensor, Tensor] | None = None  # of a sum's other side, then and now


Fit = Callable[[str, list[Seen]], LayerFit]  # takes what was seen out of the list


def fit_side_by_side(
    pruned: nn.Module, dense: Dense, graph: ChannelGraph, fit: Fit, norms: NormInputs
) -> Generator[LayerFit, None, None]:
    """Fits of the layers, as the passes over all chunks reach them.

    All wait where a layer is to be fitted, each with the rows that it has of it, and their passes
    over the dense network with them. Where a network takes another way for some inputs, it is
    fitted to those that reach it first.

    Parameters
    ----------
    dense : what the layers are fitted to, and which of them.
    norms : takes what batch-norms read in the network once it is fitted.
    """
    common = _Common(pruned, graph, dense, norms, sharing(pruned))
    passes: list[_Pass] = []
    inputs = dense.chunks.inputs()
    freed = FreedMemory()

    def begin(chunk: Inputs) -> None:
        passes.append(_Pass(common, len(passes), sum(one.images for one in passes), chunk))
        passes[-1].held.resume()
        freed.give_back()

    try:
        begin(next(inputs))
        while waits := [one.held.at for one in passes if one.held.at is not None]:
            name = min(waits, key=dense.order.index)
            if len(passes) < dense.chunks.fitted[name] and (more := next(inputs, None)) is not None:
                begin(more)
                continue
            found = fit(name, common.seen.pop(name))
            common.fits[name] = found
            yield found
            for one in passes:
                if one.held.at == name:
                    one.held.resume()
                    freed.give_back()
    finally:
        for one in passes:
            one.end()


@dataclass
class _Common:
    """What all passes share."""

    pruned: nn.Module
    graph: ChannelGraph
    dense: Dense
    norms: NormInputs
    shared: Set[str]  # modules whose weights others have too
    seen: dict[str, list[Seen]] = field(default_factory=dict)  # of the passes that wait at a layer
    fits: dict[str, LayerFit] = field(default_factory=dict)

    def ahead(self, number: int) -> list[str]:
        """Layers that are to be fitted, to this chunk among others."""
        fitted = self.dense.chunks.fitted
        return [n for n in self.dense.order if n not in self.fits and number < fitted[n]]


class _Again(BaseException):
    """Ends a pass that begins anew: a layer was fitted that ran before. No forward may catch it."""


class _Pass:
    """A chunk's pass over the pruned network, beside the one over the dense network."""

    def __init__(self, common: _Common, number: int, first: int, chunk: Inputs) -> None:
        self._common, self._number, self._chunk = common, number, chunk
        self.images = count(chunk)
        self.dense = DensePass(common.dense, common.ahead(number), first, chunk)
        self.held = Held(lambda _: self._run())

    def end(self) -> None:
        """Give it up, wherever it waits."""
        self.held.end()
        self.dense.end()

    def _run(self) -> None:
        """To its end, from the beginning again after a layer that ran before it was fitted."""
        ended = False
        while not ended:
            try:
                self._once()
                ended = True
            except _Again:
                pass
        self.dense.end()

    def _once(self) -> None:
        common = self._common
        ahead = common.ahead(self._number)
        sight = _Sight(common, self.dense, self.held)
        hooks = sight.on_output, sight.on_sum, sight.on_input
        watcher = Watcher(
            common.pruned, common.graph, ahead, common.dense.summed & set(ahead), *hooks
        )
        with (  # this thread's own
            torch.no_grad(),
            borrowed_called(common.pruned),
            common.norms.seen() as sight.norms,
            watcher,
        ):
            call(common.pruned, self._chunk)
        common.norms.add(sight.norms)


@dataclass
class _Sight:
    """What one pass sees of the layers that are to be fitted."""

    common: _Common
    dense: DensePass
    held: Held
    calls: dict[str, list[Seen]] = field(default_factory=dict)
    waiting: dict[str, Tensor] = field(default_factory=dict)  # inputs, until a sum decides
    norms: dict[nn.Module, Any] = field(default_factory=dict)  # sums of what batch-norms read

    def on_input(self, name: str, arguments: Tensor) -> None:
        """Wait before a layer of which is known what it makes, so that it runs but once."""
        known, target = self.common.seen.get(name), self.dense.target(name)
        if not known or target is None or target.other is not None or len(target.calls) > 1:
            return
        part = known[0].part
        if part is not None and part.plain and name not in self.common.shared:
            self._hold(name, [_read(part, arguments, target.calls[0])])

    def on_output(self, name: str, arguments: Tensor, output: Tensor) -> Tensor | None:
        target = self.dense.target(name)
        if target is None or name in self.common.fits:  # fitted while this pass was on another way
            return None
        layer, calls = layer_at(self.common.pruned, name), self.calls.setdefault(name, [])
        known = self.common.seen.get(name) or calls
        part = known[0].part if known else None
        calls.append(_see(layer, part, arguments, output, target.calls[len(calls)]))
        if target.other is not None:
            self.waiting[name] = arguments
            return None
        if len(calls) < len(target.calls):
            return None
        self._hold(name, self.calls.pop(name))
        stays = self.common.fits[name].left or layer.inner
        return None if stays else layer.module.forward(arguments)

    def on_sum(self, name: str, other: Tensor) -> Tensor | None:
        if name not in self.waiting:
            return None
        layer, norm = (
            layer_at(self.common.pruned, name),
            norm_after(self.common.pruned, self.common.graph, name),
        )
        arguments = self.waiting.pop(name)
        self._hold(name, [self._beside(layer, name, other)])
        if self.common.fits[name].left:
            return None
        made: Tensor = layer.module.forward(arguments)
        if norm is None:
            return made
        see_instead(self.norms, norm.module, made)
        return norm.module.forward(made)  # type: ignore[no-any-return]

    def _beside(self, layer: Layer, name: str, other: Tensor) -> Seen:
        """What was seen of a layer, and the other side of its sum."""
        [one], target = self.calls.pop(name), self.dense.target(name)
        assert target is not None
        assert target.other is not None
        return one._replace(sides=(target.other, layer.rows_made(other, one.at)))

    def _hold(self, name: str, calls: list[Seen]) -> None:
        """Wait until the layer is fitted to this pass's calls and those of others.

        The calls are handed over: the fit lets go of each when it has read it.
        """
        again = len(calls) > 1
        self.dense.forget(name)
        self.common.seen.setdefault(name, []).extend(calls)
        calls.clear()
        self.held.wait(name)
        if again:
            raise _Again


def _read(part: LinearPart, inputs: Tensor, wanted: Wanted) -> Seen:
    """Rows of a layer that computes its map, which need not run."""
    x = part.layer.rows_read(inputs, wanted.at, wanted.made)
    return Seen(part, wanted.at, x, None, None, wanted.output)


def _see(
    layer: Layer, part: LinearPart | None, inputs: Tensor, made: Tensor, wanted: Wanted
) -> Seen:
    """Rows of one call of a layer in the pruned network.

    Parameters
    ----------
    part : what is known of the layer by calls before; None at the first one.
    """
    at = wanted.at
    x, now = layer.rows_read(inputs, at, made.shape), layer.rows_made(made, at)

    def outputs() -> Tensor:
        return layer.rows_made(layer.module.forward(inputs), at)

    part = part or linear_part(layer, x, now, outputs)
    rest = part.rest(outputs) if part is not None else None
    return Seen(part, at, x, now, rest, wanted.output)


def norm_after(model: nn.Module, graph: ChannelGraph, name: str) -> Layer | None:
    follower = graph.norm_after.get(name)
    return layer_at(model, follower) if follower else None
