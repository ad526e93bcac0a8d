"""torchvision's shifted-window attention with projections that run as modules, and fewer heads.

torchvision hands the weights of both projections to one function, so that hooks on them never run,
and takes the size of a head from the width of its input, so that neither could lose channels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers.answers import Heads
from mipp.layers.attention import features_of_heads
from mipp.layers.layer import Layer
from mipp.layers.leaf import be_a_leaf
from mipp.layers.table import register_layer

HOME = "torchvision.models.swin_transformer"


class Windows(nn.Module):
    """What a pruned class takes its forward from."""

    qkv: nn.Linear
    proj: nn.Linear
    window_size: list[int]
    shift_size: list[int]
    num_heads: int
    attention_dropout: float
    dropout: float
    logit_scale: Tensor  # of version 2
    get_relative_position_bias: Callable[[], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """`ShiftedWindowAttention.forward`, with both projections called as modules.

        They are called on whole maps (n, h, w, c) instead of windows, which is the same, since a
        linear layer treats every position alone.
        """
        height, width, window = x.shape[1], x.shape[2], self.window_size
        x = F.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0]))
        size = [x.shape[1], x.shape[2]]
        shift = _shift(size, window, self.shift_size)
        made = _shifted(self.qkv(x), window, [-shift[0], -shift[1]])
        parts = torch.unflatten(made, 2, (3, self.num_heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (windows, heads, positions, size)
        scale: Tensor | None = None
        if hasattr(self, "logit_scale"):
            scale = self.logit_scale
        scores = _scores(q, k, self.qkv.bias, scale) + self.get_relative_position_bias()
        if shift[0] > 0 or shift[1] > 0:
            mask = _mask(size, window, shift, x)
            scores = torch.unflatten(scores, 0, (-1, mask.shape[0])) + mask[:, None]
            scores = scores.flatten(0, 1)
        shares = F.dropout(scores.softmax(-1), self.attention_dropout, self.training)
        mixed = _map((shares @ v).transpose(1, 2).flatten(2), size, window)
        mixed = torch.roll(mixed, shift, (1, 2))
        made = F.dropout(self.proj(mixed), self.dropout, self.training)
        return made[:, :height, :width]


def is_windowed(module: Any) -> bool:
    """Whether `Windows` is what it computes, by products of queries and keys."""
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__]
    return f"{HOME}.ShiftedWindowAttention" in kinds and not hasattr(module, "logit_scale")


def in_windows(module: Any, x: Tensor) -> Tensor:
    """Padded maps (n, h, w, c) as the windows that attend (n * windows, positions, c)."""
    shift = _shift(list(x.shape[1:3]), module.window_size, module.shift_size)
    return _shifted(x, module.window_size, [-s for s in shift])


def become_windows_of_any_size(module: Any) -> None:
    """Let a module of torchvision's compute with heads of whatever number and size."""
    kind: Any = type(module)
    if kind.__module__ == HOME:
        module.__class__ = _pruned_class(kind)
        be_a_leaf(module)


def _shift(size: list[int], window: list[int], shift: list[int]) -> list[int]:
    """None along a side of one window."""
    return [shift[i] if window[i] < size[i] else 0 for i in range(2)]


@functools.cache
def _pruned_class(kind: Any) -> Any:
    own = {"forward": Windows.forward, "__reduce__": _reduced}
    return type(f"Pruned{kind.__name__}", (kind,), own)


def _reduced(module: Any) -> tuple[Any, ...]:
    """For pickle, which finds a class by its name, of one that is made while mipp runs."""
    return _new, (type(module).__base__,), module.__dict__


def _new(kind: Any) -> Any:
    pruned = _pruned_class(kind)
    return pruned.__new__(pruned)


def _shifted(x: Tensor, window: list[int], shift: list[int]) -> Tensor:
    """Windows of maps that are rolled by this."""
    return _windows(torch.roll(x, shift, (1, 2)), window)


def _windows(x: Tensor, window: list[int]) -> Tensor:
    """Maps (n, h, w, c) -> windows (n * windows, positions, c)."""
    x = torch.unflatten(torch.unflatten(x, 2, (-1, window[1])), 1, (-1, window[0]))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _map(x: Tensor, size: list[int], window: list[int]) -> Tensor:
    """Windows (n * windows, positions, c) -> maps (n, h, w, c)."""
    x = torch.unflatten(x, 1, (window[0], window[1]))
    x = torch.unflatten(x, 0, (-1, size[0] // window[0], size[1] // window[1]))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _scores(q: Tensor, k: Tensor, bias: Tensor | None, scale: Tensor | None) -> Tensor:
    if scale is None:
        scaled: Tensor = q * q.shape[-1] ** -0.5
        return scaled @ k.transpose(-2, -1)
    if bias is not None:  # version 2 has none on its keys
        k = k - bias.chunk(3)[1].view(k.shape[1], 1, -1)
    cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    return cosines * torch.clamp(scale, max=math.log(100.0)).exp()


def _mask(size: list[int], window: list[int], shift: list[int], like: Tensor) -> Tensor:
    """-100 between positions that only the shift brought into one window, (windows, l, l)."""
    zones = [_zone(size[i], window[i], shift[i]) for i in range(2)]
    zone = _windows((3 * zones[0][:, None] + zones[1])[None, :, :, None], window)[..., 0]
    apart = zone[:, None] != zone[:, :, None]
    return apart.to(like.device, like.dtype) * -100.0


def _zone(edge: int, window: int, shift: int) -> Tensor:
    """Of each position along a side: before the last window, in it, and what the shift moved."""
    place = torch.arange(edge, device="cpu")
    last = (place >= edge - window).long()
    return last + (place >= edge - shift).long() if shift > 0 else last


@register_layer
class WindowAttention(Layer):
    """Shifted windows of either version; known without torchvision."""

    types = (f"{HOME}.ShiftedWindowAttention", f"{HOME}.ShiftedWindowAttentionV2")
    kind, role = "window attention", "parts"

    def twin(self) -> Callable[..., Any] | None:
        own = type(self.module).__module__ == HOME  # not one that runs by its twin already
        return MethodType(Windows.forward, self.module) if own else None

    def heads(self) -> Heads:
        """Heads with what each adds to its scores; version 2 computes its position bias."""
        module = self.module
        heads = int(module.num_heads)
        each = np.arange(heads)[:, None]
        makes, reads = features_of_heads(heads, module.qkv.out_features // 3 // heads)
        computed = {"cpb_mlp.2": each} if hasattr(module, "cpb_mlp") else {}
        bare = {"relative_position_bias_table": 1, "logit_scale": 0}
        held = {k: v for k, v in bare.items() if isinstance(getattr(module, k, None), nn.Parameter)}
        return Heads({"qkv": makes, **computed}, {"proj": reads}, held, {"num_heads": 1})

    def settle(self) -> None:
        """torchvision's own forward divides its input's features among the heads."""
        module: Any = self.module
        if module.qkv.out_features != 3 * module.qkv.in_features:
            become_windows_of_any_size(module)
