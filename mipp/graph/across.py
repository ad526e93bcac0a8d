"""Layers in groups of channels: a whole group is a unit, or index j of every group is.

conv(64, 64, groups=32) -> read as it is      a group of outputs goes with its group of inputs
conv(64, 64, groups=2) -> read as it is       index j of both is a unit: 32 are more than 2
conv(64, 64, groups=32) -> sum over groups    they are tied: index j of all is a unit
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from mipp.graph.grouping import components_of
from mipp.graph.labels import record_labels
from mipp.graph.record import Record, Touch
from mipp.graph.tied import sharing
from mipp.layers import IntArray, Layer, layer_at


def record_units(
    model: nn.Module, runs: Sequence[Callable[[], Any]], norm_after: Mapping[str, str]
) -> Record:
    """The record of `record_labels`, with the units of which more can go.

    A group is the unit of a layer in groups, or index j of every group where that leaves more
    units: where groups are few and large, or others tie them to one another.

    Parameters
    ----------
    runs, norm_after : as for `record_labels`.
    """
    found = plain = record_labels(model, runs, norm_after)
    before = _units_that_can_go(plain, plain.passengers)
    across: set[str] = set()
    while more := _coarse(model, found) - across:
        across |= more  # where some layers have other units, others may be tied by them
        found = record_labels(model, runs, norm_after, across)
    while across:
        after = _units_that_can_go(found, (*found.producers, *found.consumers))
        worse = {name for name in across if after.get(name, 0) <= before[name]}
        if not worse:
            break
        across -= worse
        found = record_labels(model, runs, norm_after, across) if across else plain
    return found


def _coarse(model: nn.Module, record: Record) -> set[str]:
    """Layers of few groups, or with groups of which some cannot go alone."""
    layers = {touch.module: layer_at(model, touch.module) for touch in record.passengers}
    free = _units_that_can_go(record, record.passengers)
    divided = {name: layer for name, layer in layers.items() if _divides(layer)}
    return {n for n, one in divided.items() if free[n] < _most_units(one)} - sharing(model)


def _most_units(layer: Layer) -> int:
    """Of groups, and of indices in a group of either side."""
    inputs, outputs = layer.inputs.each(), layer.outputs.each()
    return max(len(outputs), min(len(inputs.T), len(outputs.T)))


def _divides(layer: Layer) -> bool:
    """Whether index j of its groups can be a unit, and there is more than one index."""
    sides = (layer.inputs, layer.outputs) if layer.role == "both" and layer.sampled else ()
    return any(side.each().shape[1] > 1 for side in sides)


def _units_that_can_go(record: Record, touches: Sequence[Touch]) -> dict[str, int]:
    """By layer, the most units of one of its sides that can go without one another."""
    component = components_of(record)
    fixed = np.zeros(len(component), bool)
    for labels, _ in record.fixed:
        fixed[component[labels.numpy()]] = True
    free: dict[str, int] = {}
    for touch in touches:
        found: IntArray = np.unique(component[touch.labels[touch.labels >= 0]])
        free[touch.module] = max(free.get(touch.module, 0), int((~fixed[found]).sum()))
    return free
