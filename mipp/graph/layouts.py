"""Axes of channels that forward divides, and the numbers that it may divide them by.

Of `x.view(n, t, 4, 16)`, four heads, attention sums up the 16: a head is a unit, and the 4 shrinks.
Of `a, b = x.chunk(2, 1)` nothing says what goes with what: index j of both is a unit, so that the
parts stay equal. Whether the numbers in the code follow is for the probe to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from mipp.graph.channels import SizeAttribute
from mipp.graph.reasons import Reason
from mipp.graph.record import Layout, Record
from mipp.layers import IntArray


def decide_layouts(record: Record, components: Callable[[Record], IntArray]) -> IntArray:
    """Component of each label, when along all axes of a layout but one units are the same.

    Where the network itself does not couple all but one, the last stays.
    """
    component = components(record)
    for layout in record.layouts:
        if layout.divides and _axis_of_units(_owners(layout, component)) is None:
            last = layout.labels.reshape(-1, layout.labels.shape[-1])
            before = len(record.edges)
            record.couple(last[:1].expand(last.shape), last)
            where = layout.module or "forward"
            text = f"{where} splits its channels, and its parts are all tied to one another"
            record.joined.append((layout.labels[layout.labels >= 0], Reason("part", text)))
            if len(record.edges) > before:
                component = components(record)
    return component


def _owners(layout: Layout, component: IntArray) -> IntArray:
    labels = layout.labels.numpy()
    return np.where(labels >= 0, component[labels], -1)


def _axis_of_units(owners: IntArray) -> int | None:
    """The axis along which units differ, if there is no other; the last where none does."""
    varying = [a for a in range(owners.ndim) if (owners != owners.take([0], a)).any()]
    return None if len(varying) > 1 else (varying or [owners.ndim - 1])[0]


def size_choices(
    layouts: list[Layout],
    component: IntArray,
    units: list[int],
    modules: Mapping[str, nn.Module],
) -> tuple[SizeAttribute, ...]:
    """Numbers of the running modules from which forward may lay these units out."""
    found: dict[tuple[str, str], SizeAttribute] = {}
    for layout in layouts:
        owners = _owners(layout, component)
        held = np.isin(owners, units)
        if not held.any():
            continue
        numbers = _numbers(modules[layout.module])
        axis = _axis_of_units(owners)
        lines = [owners.ravel()]
        if axis is not None:
            lines.append(np.moveaxis(owners, axis, 0).reshape(owners.shape[axis], -1)[:, 0])
        for line in lines:
            block, odd = divmod(int(np.isin(line, units).sum()), len(units))
            for name, number in numbers.items():
                if number == len(line) and block and not odd:
                    size = SizeAttribute(layout.module, name, block)
                    found.setdefault((layout.module, name), size)
    return tuple(found.values())


def _numbers(module: nn.Module) -> dict[str, int]:
    return {name: value for name, value in vars(module).items() if type(value) is int}
