"""Widths that forward takes from elsewhere: from numbers of its modules, or from another group.

x * self.scale.view(self.shape)          `shape` holds the width, and shrinks with it
q, k = proj(x).split(x.shape[1], 1)      x, q and k run only while they are equally wide: index j
of each is one unit
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from torch import nn

from mipp.graph.channels import ChannelGroup, SizeAttribute
from mipp.graph.layouts import names_of
from mipp.graph.probe import fails_apart, fails_on_shapes
from mipp.inputs import Inputs

Groups = Mapping[str, ChannelGroup]


def settle_widths(model: nn.Module, found: Groups, example: Inputs) -> dict[str, ChannelGroup]:
    """The groups, with numbers that equal their width or as one, where forward only runs so."""
    fault = fails_on_shapes(model, example)
    if fault is None or fault(found) is None:
        return dict(found)
    settled, modules = dict(found), dict(model.named_modules())
    alike: dict[int, list[str]] = {}
    for name, why in fails_apart(found, fault).items():
        group = _with_numbers(found[name], modules)
        if fault({name: group}) is None:
            settled[name] = group
        elif why.category == "sizes":
            alike.setdefault(group.width, []).append(name)
    for names in alike.values():
        whole = _joined([found[name] for name in names])
        tries = (whole, _with_numbers(whole, modules))
        runs = next((one for one in tries if fault({one.name: one}) is None), None)
        if runs is not None:
            settled = {name: one for name, one in settled.items() if name not in names[1:]}
            settled[runs.name] = runs
    return settled


def _with_numbers(group: ChannelGroup, modules: Mapping[str, nn.Module]) -> ChannelGroup:
    """A group, and what equals its width in the modules that hold its parts and parameters."""
    known = {(size.module, size.attribute) for size in group.sizes}
    parts = (*group.modules(), *(bare.module for bare in group.parameters))
    holders = dict.fromkeys(part.rpartition(".")[0] for part in parts)
    numbers = [
        SizeAttribute(holder, name, 1)
        for holder in holders
        for name in names_of(modules[holder], group.width)
        if (holder, name) not in known
    ]
    return replace(group, sizes=(*group.sizes, *numbers))


def _joined(groups: Sequence[ChannelGroup]) -> ChannelGroup:
    """One group, whose unit j is unit j of each."""
    names = [f.name for f in fields(ChannelGroup) if isinstance(getattr(groups[0], f.name), tuple)]
    parts: dict[str, Any] = {
        name: _merged(part for group in groups for part in getattr(group, name)) for name in names
    }
    return replace(groups[0], **parts)


def _merged(parts: Iterable[Any]) -> tuple[Any, ...]:
    """Parts of groups, those of one place as one: with the features, or their number, of all."""
    found: dict[tuple[Any, ...], Any] = {}
    for part in parts:
        key = tuple(
            getattr(part, f.name) for f in fields(part) if f.name not in ("features", "block")
        )
        other = found.get(key)
        if other is None:
            found[key] = part
        elif hasattr(part, "block"):
            found[key] = replace(part, block=other.block + part.block)
        else:
            features = np.concatenate([other.features, part.features], 1)
            found[key] = replace(part, features=features)
    return tuple(found.values())
