"""Measures a network's time: each module at several widths, and whole networks in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from mipp.cut import apply_selection
from mipp.device import describe_device, dtype_of, synchronize
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph
from mipp.graph.latency import LatencyTable, WidthCurve, rising
from mipp.inputs import Call, Shape, filled, zeros
from mipp.latency.widths import Part, parts_of, typical
from mipp.metrics import WARM_UPS, latencies_ms
from mipp.progress import track
from mipp.selection.selection import Selection

ROUNDS = (5, 2)  # visits of each width, of slow ones; the fastest counts: others only add time
LONG = 0.05  # seconds of a visit from which a width is slow
LEAST = 1e-3  # seconds that a visit takes at least: what is faster is called often
SHARES = (1.0, 0.75, 0.5, 0.25)  # of all widths, of the networks that are timed whole
SECONDS = 10.0  # spent on timing networks in turns, within these numbers of turns:
TURNS = (3, 101)
SLOW = 0.5  # seconds of a pass from which one warm-up will do
PRIOR = 0.1  # weight of the belief that a module takes in the network what it takes alone

Measure = Callable[[Part, int, int], float]  # milliseconds of a part at two widths


@dataclass(frozen=True)
class Clock:
    """Measures the time of a network and of its prunings; batch and device as they will be used.

    `shape` is one input's, without the batch axis; the network is on the device.
    """

    model: nn.Module
    shape: Shape
    batch: int
    device: torch.device
    calls: Sequence[Call] = ()  # those that the graph was made with
    wider: nn.Module | None = None  # that shares are of, where its heads are wider

    def measured(self, graph: ChannelGraph) -> ChannelGraph:
        """The graph with a measured table of times."""
        images = filled(self.shape, self.batch, 0.5, dtype=dtype_of(self.model), device=self.device)
        parts = parts_of(self.model, graph, images)
        curves = build_curves(parts, lambda part, i, o: _time_part(part, i, o, self.device))
        kept = [_uniform(graph, share) for share in SHARES]
        wider = [self.wider] if self.wider is not None else []
        networks = [*wider, *(self._pruned(first_channels(graph, k)) for k in kept)]
        times = self._in_turns(networks)
        own = times[len(wider) :]
        table = fit_remainder(LatencyTable(curves), graph, kept, own)
        times_as_long = {"latency": times[0] / own[0]} if wider else {}
        return replace(graph, latency=table, wider={**graph.wider, **times_as_long})

    def share(self, selection: Selection) -> float:
        """Measured time of the network with a selection, as a share of the dense one's."""
        dense, after = self._in_turns([self.wider or self.model, self._pruned(selection)])
        return after / dense

    def least_share(self, graph: ChannelGraph, floors: Mapping[str, int]) -> float:
        """`share` with every group at its floor; one channel where the floor is none."""
        return self.share(
            first_channels(graph, {group: max(floor, 1) for group, floor in floors.items()})
        )

    def circumstances(self) -> dict[str, Any]:
        """Batch and device of the measurements."""
        return {"batch": self.batch, "device": describe_device(self.device)}

    def _pruned(self, selection: Selection) -> nn.Module:
        dtype = dtype_of(self.model)
        example = zeros(self.shape, device=self.device, dtype=dtype)
        return apply_selection(self.model, selection, example, self.calls)

    def _in_turns(self, networks: Sequence[nn.Module]) -> list[float]:
        """Milliseconds of each, with as many turns as fit into the time for it."""
        settings: dict[str, Any] = {"batch": self.batch, "device": self.device}
        [once] = latencies_ms([self.model], self.shape, repeats=1, warm_ups=1, **settings)
        turns = round(SECONDS / (len(networks) * 1e-3 * once))
        return latencies_ms(
            networks,
            self.shape,
            repeats=min(max(turns, TURNS[0]), TURNS[1]),
            warm_ups=1 if 1e-3 * once > SLOW else WARM_UPS,
            **settings,
        )


def build_curves(parts: Mapping[str, Part], measure: Measure) -> dict[str, WidthCurve]:
    """Times of every part over its grid of widths; parts alike are measured once."""
    distinct = {part.key(): part for part in parts.values()}
    found = {
        key: _curve(part, measure)
        for key, part in track(distinct.items(), total=len(distinct), label="latency")
    }
    return {name: found[part.key()] for name, part in parts.items()}


def _curve(part: Part, measure: Measure) -> WidthCurve:
    inputs, outputs = part.grid()
    ms = np.array([[measure(part, i, o) for o in outputs] for i in inputs])
    elements = sum(call.elements for call in part.calls) // part.cost.out_features
    return WidthCurve(inputs, outputs, rising(ms), elements if part.cost.outputs else 0)


def _time_part(part: Part, inputs: int, outputs: int, device: torch.device) -> float:
    """Milliseconds of a module at these widths."""
    module, calls = part.cut(inputs, outputs), part.inputs_at(inputs, outputs, device)
    with evaluating(module), torch.inference_mode():

        def visit(times: int) -> float:
            synchronize(device)
            start = time.perf_counter()
            for _ in range(times):
                for args, kwargs in calls:
                    module(*args, **kwargs)
            synchronize(device)
            return (time.perf_counter() - start) / times

        once = visit(1)
        if once < LONG:
            once = visit(1)
        times = math.ceil(LEAST / once)
        return 1e3 * min(visit(times) for _ in range(ROUNDS[once >= LONG]))


def fit_remainder(
    table: LatencyTable,
    graph: ChannelGraph,
    kept: Sequence[Mapping[str, int]],
    times: Sequence[float],
) -> LatencyTable:
    """The table with what modules alone do not tell, from networks that were timed whole.

    Non-negative least squares of relative errors.

    Parameters
    ----------
    kept : channels per group of each of these networks.
    times : their milliseconds.
    """
    parts = np.array([table.parts(graph.features(counts)) for counts in kept])
    rows = np.column_stack([parts, np.ones(len(parts))]) / np.array(times)[:, None]
    prior = [PRIOR * rows[0, 0], 0.0, 0.0]
    known = [*np.ones(len(rows)), PRIOR * rows[0, 0]]
    columns = np.vstack([rows, prior])
    sizes = np.maximum(columns.max(0), 1e-300)
    solution = nnls(columns / sizes, np.array(known))[0] / sizes
    scale, per_element, constant = map(float, solution)
    return replace(table, scale=scale, per_element=per_element, constant=constant)


def _uniform(graph: ChannelGraph, share: float) -> dict[str, int]:
    return {
        group: typical(max(1, round(width * share)), width) for group, width in graph.widths.items()
    }


def first_channels(graph: ChannelGraph, counts: Mapping[str, int]) -> Selection:
    """The first channels of every group: which they are does not matter for the time."""
    kept = {group: np.arange(count) for group, count in counts.items()}
    return Selection(kept, dict(graph.widths), "first")
