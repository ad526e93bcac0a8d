"""Least-squares refit of a pruned network, front to back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mipp.activations.capture import Sampling, Tap
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph
from mipp.graph.tied import sharing
from mipp.inputs import Inputs, call, each
from mipp.layers import Layer, Statistics, layer_at
from mipp.progress import track
from mipp.refit.filter_lengths import filter_lengths, restore_lengths
from mipp.refit.least_squares import SOLUTIONS, LayerFit, Rows, fit_layer, leave_layer
from mipp.refit.linear_part import LinearPart, linear_part
from mipp.refit.rectified import rows_to_fit
from mipp.refit.watcher import Watcher
from mipp.selection.selection import Selection

Batches = Callable[[], Iterable[Inputs]]

NOT_LINEAR = (
    "its weights were left as they are: what it computes is no linear map of them, since its "
    "forward does more than its kind of layer"
)


SHARED = (
    "its weights were left as they are: another module shares them, whose inputs and outputs are "
    "others"
)


@dataclass(frozen=True)
class RefitSettings:
    """How layers are fitted.

    `ridge` is a share of the mean variance of a layer's inputs, `sampling` of the rows of each
    layer. `solutions` counts those of a layer whose outputs a ReLU leaves some freedom, the first
    of which knows nothing of it. `lengths` are those of filters before a batch-norm.
    """

    ridge: float
    sampling: Sampling
    solutions: int = SOLUTIONS
    lengths: Literal["former", "fitted"] = "former"


def refit(
    pruned: nn.Module,
    dense: nn.Module,
    graph: ChannelGraph,
    selection: Selection,
    batches: Batches,
    settings: RefitSettings,
) -> list[LayerFit]:
    """Replace consumers' weights, front to back and in place, by a least-squares map.

    From the first conv or linear layer that lost inputs onward, attentions' in-projections
    among them, each is fitted from its actual
    inputs, in the pruned and so far refitted network, to the dense network's pre-activations
    on the rows it kept; a ridge pulls toward the weights it has. Where a layer's output is added
    to a skip connection, it is fitted to make up for the error of that side too, so that errors
    do not pile up along a residual stream. Where a ReLU follows and passes nothing on, any output
    that leaves it so will do. The change of the mean goes to the bias, or to the batch-norm that
    follows; filters before one keep their length. A layer that runs several times is fitted to the
    rows of all its calls, once what runs before the last of them is. A layer that computes
    something else than a linear map of its weights is left as it is, and its `LayerFit` says so.

    Parameters
    ----------
    batches : called for the calibration inputs, the same every time. With a single batch the
        network runs once and each layer is refitted when the pass reaches it, but for each that
        runs several times it begins anew; with several, each layer costs a pass up to it, and no
        more than one batch is in memory.

    Source: the least-squares map is the g of arXiv:2411.00147v1, theorem 1; making up for the
    skip connection follows He et al. (arXiv:1707.06168v2).
    """
    names = _consumers_to_refit(dense, graph, selection)
    if not names:
        return []
    positions = {p.consumer: p.positions for p in graph.pairs if p.consumer in graph.repeated}

    def taps_of(model: nn.Module) -> dict[str, Tap]:
        return {
            n: Tap(layer_at(model, n), settings.sampling, i, positions.get(n))
            for i, n in enumerate(names)
        }

    targets = _dense_targets(dense, graph, selection, taps_of(dense), batches)

    plain: set[str] = set()
    shared = sharing(pruned)

    def fit(name: str, chunks: Iterable[_Seen]) -> LayerFit:
        norm, rectified = _statistics_after(pruned, graph, name), name in graph.rectified
        seen = list(chunks)
        part = seen[0].part
        rows = [_rows_to_fit(one, norm, rectified=rectified) for one in seen]
        if part is None or name in shared:
            why = NOT_LINEAR if part is None else SHARED
            return leave_layer(name, rows, [one.now for one in seen], why)
        if part.plain:
            plain.add(name)
        return fit_layer(name, part, norm, rows, ridge=settings.ridge, solutions=settings.solutions)

    lengths = filter_lengths(pruned, names, graph.norm_after)
    with evaluating(pruned), torch.no_grad():
        first = list(itertools.islice(batches(), 2))
        if len(first) == 1:
            fits = _fit_on_the_way(pruned, first[0], graph, taps_of, targets, fit)
        else:
            taps = taps_of(pruned)
            fits = [
                fit(name, _rows_of(pruned, batches(), graph, name, taps[name], targets[name]))
                for name in track(_in_order(targets), total=len(names), label="refit")
            ]
    if settings.lengths == "former":
        lengths = {name: lengths[name] for name in lengths if name in plain}
        restore_lengths(pruned, lengths, graph.norm_after, _first(batches))
    return fits


class _Seen(NamedTuple):
    """Sampled rows of a layer in the pruned network, and of what decides about its outputs."""

    part: LinearPart | None  # what can be fitted of the layer
    at: Tensor  # positions
    x: Tensor  # of its inputs
    now: Tensor  # of its outputs
    rest: Tensor | None  # of what it puts out beside its linear map
    output: Tensor  # of the dense network's outputs
    sides: tuple[Tensor, Tensor] | None = None  # of a sum's other side, then and now


Fit = Callable[[str, Iterable[_Seen]], LayerFit]


def _see(tap: Tap, part: LinearPart | None, inputs: Tensor, made: Tensor, dense: Tensor) -> _Seen:
    """Rows of one call of a layer in the pruned network.

    Parameters
    ----------
    part : what is known of the layer by calls before; None at the first one.
    """
    at, layer = tap.draw(made), tap.layer
    x, now = tap.inputs(inputs, at, made), tap.outputs(made, at)

    def outputs() -> Tensor:
        return tap.outputs(layer.module.forward(inputs), at)

    part = part or linear_part(layer, x, now, outputs)
    rest = part.rest(outputs) if part is not None else None
    return _Seen(part, at, x, now, rest, dense)


def _rows_to_fit(seen: _Seen, norm: Statistics | None, *, rectified: bool) -> Rows:
    rows = rows_to_fit(seen.x, seen.output, norm, seen.sides, rectified=rectified)
    return rows if seen.rest is None else rows.beside(seen.rest)


def _first(batches: Batches) -> Inputs:
    """A single calibration input."""
    return each(next(iter(batches())), lambda tensor: tensor[:1])


@dataclass
class _Targets:
    """The dense network's sampled rows of one layer, on the channels that the pruned one has."""

    output: list[list[Tensor]] = field(default_factory=list)  # (rows, kept) per batch and call
    other: list[Tensor] = field(default_factory=list)  # what it is added to; none without a sum
    partner: str = ""  # the layer that makes the other side, if it is one


def _consumers_to_refit(dense: nn.Module, graph: ChannelGraph, selection: Selection) -> list[str]:
    """Consumers with weights from the first that lost an input; those that run again come last."""
    consumers = {pair.consumer for pair in graph.pairs}
    linear = {name for name in consumers if layer_at(dense, name).filters is not None}
    lost = {pair.consumer for pair in graph.pairs if len(selection.dropped(pair.group))}
    ordered = [cost.module for cost in graph.costs if cost.module in linear]
    first = next((i for i, name in enumerate(ordered) if name in lost), len(ordered))
    again = graph.repeated if first < len(ordered) else ()
    return ordered[first:] + [name for name in ordered[:first] if name in again]


def _dense_targets(
    dense: nn.Module,
    graph: ChannelGraph,
    selection: Selection,
    taps: Mapping[str, Tap],
    batches: Batches,
) -> Mapping[str, _Targets]:
    pairs = {pair.consumer: pair for pair in graph.pairs}
    partners = _summed(dense, graph, taps)
    found = {name: _Targets(partner=partners.get(name, "")) for name in taps}
    drawn: dict[str, Tensor] = {}

    def sample(name: str, values: Tensor) -> Tensor:
        kept = torch.from_numpy(pairs[name].rows_kept(selection.kept))
        return taps[name].outputs(values, drawn[name])[:, kept.to(values.device)]

    def on_output(name: str, inputs: Tensor, output: Tensor) -> None:
        drawn.pop(name, None)  # it comes after what runs before its last call
        drawn[name] = taps[name].draw(output)
        found[name].output[-1].append(sample(name, output))

    def on_sum(name: str, other: Tensor) -> None:
        found[name].other.append(sample(name, other))

    with evaluating(dense), torch.no_grad():
        for inputs in batches():
            for name, tap in taps.items():
                tap.restart()
                found[name].output.append([])
            with Watcher(dense, graph, taps, partners, on_output, on_sum):
                call(dense, inputs)
    return {name: found[name] for name in drawn}  # in the order in which they make something


def _summed(dense: nn.Module, graph: ChannelGraph, names: Collection[str]) -> dict[str, str]:
    """Layers that make up for the other side of a sum, and the layer that makes it, if one does.

    Of two layers that could, it is the one with more inputs.
    """
    partners = {name: graph.sums[name] for name in names if name in graph.sums}
    partners = {name: other if other in names else "" for name, other in partners.items()}
    return {
        name: other
        for name, other in partners.items()
        if other not in partners or _fan_in(dense, name) > _fan_in(dense, other)
    }


def _fan_in(model: nn.Module, name: str) -> tuple[int, str]:
    """Inputs of each output of a layer; its name, so that no two layers are equal."""
    linear = layer_at(model, name).map
    assert linear is not None
    return linear.weight[0].numel(), name


def _in_order(targets: Mapping[str, _Targets]) -> list[str]:
    """Layers in the order of refitting: one that makes up for another comes after it."""
    order = list(targets)
    for name, wanted in targets.items():
        if wanted.other and wanted.partner in targets:
            order.remove(name)
            order.insert(max(order.index(wanted.partner) + 1, list(targets).index(name)), name)
    return order


def _norm_after(model: nn.Module, graph: ChannelGraph, name: str) -> Layer | None:
    follower = graph.norm_after.get(name)
    return layer_at(model, follower) if follower else None


def _statistics_after(model: nn.Module, graph: ChannelGraph, name: str) -> Statistics | None:
    norm = _norm_after(model, graph, name)
    return norm.statistics if norm is not None else None


class _Reached(BaseException):
    """Ends a forward pass at the layer of interest, or at its sum; no forward may catch it."""


def _fit_on_the_way(
    pruned: nn.Module,
    inputs: Inputs,
    graph: ChannelGraph,
    taps_of: Callable[[nn.Module], dict[str, Tap]],
    targets: Mapping[str, _Targets],
    fit: Fit,
) -> list[LayerFit]:
    """Fit layers as the network reaches them; it begins anew after one that runs several times."""
    fits: dict[str, LayerFit] = {}
    calls: dict[str, list[_Seen]] = {}
    waiting: dict[str, Tensor] = {}  # inputs of layers that a sum will decide about
    taps = taps_of(pruned)
    summed = [name for name in taps if targets[name].other]

    def on_output(name: str, arguments: Tensor, output: Tensor) -> Tensor | None:
        seen, [dense] = calls.setdefault(name, []), targets[name].output
        part = seen[0].part if seen else None
        seen.append(_see(taps[name], part, arguments, output, dense[len(seen)]))
        if targets[name].other:
            waiting[name] = arguments
        if targets[name].other or len(seen) < len(dense):
            return None
        fits[name] = fit(name, seen)
        if len(seen) > 1:
            raise _Reached
        layer = taps[name].layer
        return None if fits[name].left or layer.inner else layer.module.forward(arguments)

    def on_sum(name: str, other: Tensor) -> Tensor | None:
        arguments, [seen] = waiting.pop(name), calls[name]
        norm = _norm_after(pruned, graph, name)
        sides = (targets[name].other[0], taps[name].outputs(other, seen.at))
        fits[name] = fit(name, [seen._replace(sides=sides)])
        if fits[name].left:
            return None
        made: Tensor = taps[name].layer.module.forward(arguments)
        return made if norm is None else norm.module.forward(made)

    reached = True
    while reached:
        taps, reached = taps_of(pruned), False
        calls.clear()
        waiting.clear()
        try:
            others = [name for name in taps if name not in fits]
            with Watcher(pruned, graph, others, summed, on_output, on_sum):
                call(pruned, inputs)
        except _Reached:
            reached = True
    return [fits[name] for name in taps]


def _rows_of(
    pruned: nn.Module,
    batches: Iterable[Inputs],
    graph: ChannelGraph,
    name: str,
    tap: Tap,
    targets: _Targets,
) -> Iterator[_Seen]:
    """Rows of one layer and of what decides about its outputs, batch by batch and call by call."""
    rows: list[_Seen] = []
    part: LinearPart | None = None

    def on_output(_: str, arguments: Tensor, output: Tensor) -> None:
        rows.append(_see(tap, rows[0].part if rows else part, arguments, output, dense[len(rows)]))
        if not targets.other and len(rows) == len(dense):
            raise _Reached

    def on_sum(_: str, other: Tensor) -> None:
        sides = (before, tap.outputs(other, rows[0].at))
        rows.append(rows.pop()._replace(sides=sides))
        raise _Reached

    others = targets.other or [torch.empty(0)] * len(targets.output)
    for inputs, output, other in zip(batches, targets.output, others, strict=True):
        dense, before = output, other
        rows.clear()
        tap.restart()
        with (
            contextlib.suppress(_Reached),
            Watcher(pruned, graph, [name], [name] if targets.other else [], on_output, on_sum),
        ):
            call(pruned, inputs)
        part = rows[0].part
        yield from rows
        if part is None:  # no other batch makes the layer a linear map
            return
