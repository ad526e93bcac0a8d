"""Attention heads as channels: a head is a block of features at the output projection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from torch import nn

from mipp.graph.channels import BareParameter, ChannelGroup, IntArray, Member, SizeAttribute
from mipp.layers.attention import has_fused_projection, is_plain
from mipp.layers.window_attention import is_window_attention


def head_groups(
    model: nn.Module, calls: Mapping[str, int], tied: set[str]
) -> Iterator[tuple[ChannelGroup, str]]:
    """One group per attention module, a head per channel, with the reason why it stays whole.

    Parameters
    ----------
    calls : how often each module runs.
    tied : modules that share their weights with others.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and name in calls:
            group, reason = _own_projection(name, module)
        elif has_fused_projection(module) and calls.get(f"{name}.qkv"):
            group, reason = _fused_projection(name, module), ""
        elif is_window_attention(module) and calls.get(f"{name}.qkv"):
            group, reason = _windowed(name, module), ""
        else:
            continue
        yield group, reason or _unsound(group, calls, tied)


def _own_projection(name: str, module: nn.MultiheadAttention) -> tuple[ChannelGroup, str]:
    """Heads of torch's attention, which holds the weights of its in-projection itself."""
    makes, reads = _features(module.num_heads, module.head_dim)
    members = (Member(name, makes),), (), (Member(f"{name}.out_proj", reads),)
    reason = "" if is_plain(module) else "its projections are apart or it adds keys of its own"
    return ChannelGroup(name, module.num_heads, *members), reason


def _fused_projection(name: str, module: nn.Module) -> ChannelGroup:
    """Heads of an attention whose query, key and value come from one linear layer, as in timm."""
    heads, size = int(module.num_heads), int(module.head_dim)  # type: ignore[arg-type]
    makes, reads = _features(heads, size)
    members = (Member(f"{name}.qkv", makes),), (), (Member(f"{name}.proj", reads),)
    sizes = [SizeAttribute(name, "num_heads", 1)]
    if hasattr(module, "attn_dim"):
        sizes.append(SizeAttribute(name, "attn_dim", size))
    return ChannelGroup(name, heads, *members, sizes=tuple(sizes))


def _windowed(name: str, module: nn.Module) -> ChannelGroup:
    """Heads of torchvision's shifted windows, with what each head adds to its scores."""
    heads = int(module.num_heads)  # type: ignore[arg-type]
    makes, reads = _features(heads, module.qkv.out_features // 3 // heads)  # type: ignore[union-attr, operator, arg-type]
    each = np.arange(heads)[:, None]
    producers = [Member(f"{name}.qkv", makes)]
    if hasattr(module, "cpb_mlp"):  # version 2 computes its position bias
        producers.append(Member(f"{name}.cpb_mlp.2", each))
    bare = [
        BareParameter(f"{name}.{parameter}", axis, each)
        for parameter, axis in (("relative_position_bias_table", 1), ("logit_scale", 0))
        if isinstance(getattr(module, parameter, None), nn.Parameter)
    ]
    consumers = (Member(f"{name}.proj", reads),)
    sizes = (SizeAttribute(name, "num_heads", 1),)
    return ChannelGroup(name, heads, tuple(producers), (), consumers, tuple(bare), sizes)


def _features(heads: int, size: int) -> tuple[IntArray, IntArray]:
    """Features of each head at the in-projection's output and at the out-projection's input."""
    reads = np.arange(heads * size).reshape(heads, size)
    return np.concatenate([reads + part * heads * size for part in range(3)], 1), reads


def _unsound(group: ChannelGroup, calls: Mapping[str, int], tied: set[str]) -> str:
    modules = group.modules()
    if any(calls.get(name, 0) != 1 for name in modules):
        return f"{group.name} runs more than once"
    if tied.intersection(modules):
        return f"{group.name} shares its weights with another module"
    return "it has a single head" if group.width == 1 else ""
