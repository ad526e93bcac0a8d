"""Groups that are cut together since forward lays out one of them by the width of another.

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
from mipp.graph.probe import fails_apart, fails_on_shapes
from mipp.inputs import Inputs

Groups = Mapping[str, ChannelGroup]


def settle_widths(model: nn.Module, found: Groups, example: Inputs) -> dict[str, ChannelGroup]:
    """The groups; those of one width, alone in which forward fails, as one with which it runs."""
    fault = fails_on_shapes(model, example)
    if fault is None or fault(found) is None:
        return dict(found)
    alike: dict[int, list[str]] = {}
    for name, why in fails_apart(found, fault).items():
        if why.category == "sizes":
            alike.setdefault(found[name].width, []).append(name)
    settled, modules = dict(found), dict(model.named_modules())
    for names in alike.values():
        whole = _joined([found[name] for name in names])
        tries = [whole, replace(whole, sizes=whole.sizes + _numbers(whole, modules))]
        group = next((one for one in tries if fault({one.name: one}) is None), None)
        if group is not None:
            settled = {name: one for name, one in settled.items() if name not in names[1:]}
            settled[group.name] = group
    return settled


def _numbers(group: ChannelGroup, modules: Mapping[str, nn.Module]) -> tuple[SizeAttribute, ...]:
    """Numbers, beside those known, that equal the width in modules whose parts it runs through."""
    known = {(size.module, size.attribute) for size in group.sizes}
    holders = dict.fromkeys(name.rpartition(".")[0] for name in group.modules())
    return tuple(
        SizeAttribute(holder, attribute, 1)
        for holder in holders
        for attribute, value in vars(modules[holder]).items()
        if type(value) is int and value == group.width and (holder, attribute) not in known
    )


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
