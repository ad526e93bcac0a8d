"""Attention heads as channels: a head is a block of features at the output projection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from torch import nn

from mipp.graph.channels import BareParameter, ChannelGroup, Member, SizeAttribute
from mipp.graph.reasons import Reason
from mipp.layers import Heads, layer_of


def head_groups(
    model: nn.Module, calls: Mapping[str, int], tied: set[str]
) -> Iterator[tuple[ChannelGroup, Reason | None]]:
    """One group per attention module, a head per channel, with the reason why it stays whole.

    Parameters
    ----------
    calls : how often each module runs.
    tied : modules that share their weights with others.
    """
    for name, module in model.named_modules():
        layer = layer_of(module)
        heads = layer.heads() if layer is not None else None
        if heads is not None:
            group = _group(name, heads)
            if calls.get(group.producers[0].module):
                yield group, _unsound(group, calls, tied)


def _group(name: str, heads: Heads) -> ChannelGroup:
    def full(part: str) -> str:
        return ".".join(filter(None, (name, part)))

    count = len(next(iter(heads.makes.values())))
    each = np.arange(count)[:, None]
    return ChannelGroup(
        name,
        count,
        producers=tuple(Member(full(part), features) for part, features in heads.makes.items()),
        passengers=(),
        consumers=tuple(Member(full(part), features) for part, features in heads.reads.items()),
        parameters=tuple(
            BareParameter(full(p), axis, each) for p, axis in heads.parameters.items()
        ),
        sizes=tuple(SizeAttribute(name, size, block) for size, block in heads.sizes.items()),
    )


def _unsound(group: ChannelGroup, calls: Mapping[str, int], tied: set[str]) -> Reason | None:
    modules = group.modules()
    if not all(calls.get(name, 0) for name in modules):
        return Reason("uncalled", f"a part of {group.name} is used without being called")
    if tied.intersection(modules):
        return Reason("shared", f"{group.name} shares its weights with another module")
    return Reason("single", "it has a single head") if group.width == 1 else None
