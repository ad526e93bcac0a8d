"""Axes of channels that forward divides, and the numbers that it may divide them by.

Of `x.view(n, t, 4, 16)`, four heads, attention sums up the 16: a head is a unit, and the 4 shrinks.
Of `a, b = x.chunk(2, 1)` nothing says what goes with what: index j of both is a unit, so that the
parts stay equal. Whether the numbers in the code follow is for the probe to say.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from mipp.graph.channels import SizeAttribute
from mipp.graph.reasons import Reason
from mipp.graph.record import Layout, Record
from mipp.layers import IntArray

AXES = 8  # a longer sequence is no shape


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
        axis = _axis_of_units(owners)
        lines = [owners.ravel()]
        if axis is not None:
            lines.append(np.moveaxis(owners, axis, 0).reshape(owners.shape[axis], -1)[:, 0])
        for line in lines:
            block, odd = divmod(int(np.isin(line, units).sum()), len(units))
            for name in names_of(modules[layout.module], len(line)) if block and not odd else ():
                size = SizeAttribute(layout.module, name, block)
                found.setdefault((layout.module, name), size)
    return tuple(found.values())


def names_of(module: nn.Module, number: int) -> list[str]:
    """Where a module keeps a number: in attributes of its own, else in those of what they hold.

    >>> module = nn.Linear(3, 8)
    >>> names_of(module, 8)
    ['out_features']
    >>> module.sizes = [4, 5]
    >>> names_of(module, 5)
    ['sizes.1']
    """
    own = vars(module)
    found = list(_among(own.items(), number))
    if found:
        return found
    held = ((f"{name}.{key}", part) for name, value in own.items() for key, part in _held(value))
    return list(_among(held, number))


def _among(items: Iterable[tuple[str, Any]], number: int) -> Iterator[str]:
    """Names of a number, and of short sequences that hold it with its place."""
    for name, value in items:
        if type(value) is int and value == number:
            yield name
        elif type(value) in (list, tuple) and len(value) <= AXES:
            places = (i for i, part in enumerate(value) if type(part) is int and part == number)
            yield from (f"{name}.{place}" for place in places)


def _held(value: Any) -> Iterable[tuple[str, Any]]:
    """Attributes of a plain value, such as a configuration."""
    plain = type(value).__module__ not in ("builtins", "collections")
    return vars(value).items() if plain and hasattr(value, "__dict__") else ()


def less(value: Any, keys: Sequence[str], by: int) -> Any:
    """A number, or a copy of what holds it by `names_of`, once it is less.

    >>> less([4, [5, 6]], ["1", "0"], 2)
    [4, [3, 6]]
    """
    if not keys:
        return value - by
    key, *rest = keys
    if isinstance(value, (list, tuple)):
        place = int(key)
        return type(value)((*value[:place], less(value[place], rest, by), *value[place + 1 :]))
    other = copy.copy(value)
    vars(other)[key] = less(vars(value)[key], rest, by)
    return other
