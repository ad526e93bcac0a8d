"""Layers in groups of channels: a whole group is a unit, or index j of every group is.

conv (groups=2) -> read as it is                  a group of outputs goes with its group of inputs
conv (groups=2) -> sum over the two groups        they are tied: index j of both is a unit
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

    A group is the unit of a layer in groups where nothing ties it to another; index j of every
    group where that leaves more units than there are groups which can still go.

    Parameters
    ----------
    runs, norm_after : as for `record_labels`.
    """
    found = plain = record_labels(model, runs, norm_after)
    before = _units_that_can_go(plain, plain.passengers)
    across: set[str] = set()
    while more := _tied_groups(model, found) - across:
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


def _tied_groups(model: nn.Module, record: Record) -> set[str]:
    """Layers in groups some of which cannot go alone."""
    layers = {touch.module: layer_at(model, touch.module) for touch in record.passengers}
    free = _units_that_can_go(record, record.passengers)
    tied = {n for n, layer in layers.items() if free[n] < len(layer.outputs.each())}
    return {name for name in tied - sharing(model) if _divides(layers[name])}


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
