"""Convolutions that standardise their weight in every call, as timm's do.

A filter without some inputs would be standardised to other weights, so that a cut one keeps the
weight that the whole one computed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mipp.layers.answers import IntArray, LinearMap
from mipp.layers.conv import Conv, GroupedConv
from mipp.layers.layer import Layer, SideName
from mipp.layers.table import register_layer

HOME = "timm.layers.std_conv"
TYPES: tuple[type | str, ...] = tuple(
    f"{HOME}.{name}"
    for name in ("StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame")
)


def pad_same(module: Any, x: Tensor) -> Tensor:
    """A map with as many zeros around it as a convolution needs to leave its size to the stride."""
    sides: list[int] = []
    for axis in (1, 0):
        size, stride = x.shape[2 + axis], module.stride[axis]
        reach = (module.kernel_size[axis] - 1) * module.dilation[axis] + 1
        more = max((-(-size // stride) - 1) * stride + reach - size, 0)
        sides += [more // 2, more - more // 2]
    return F.pad(x, sides)


class SamePaddedConv(nn.Conv2d):
    """A convolution that pads its input to as many places as its stride leaves of it."""

    same_pad = True

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(self, x))


class _Weight(TorchFunctionMode):
    """Keeps the weight that a convolution is called with."""

    weight: Tensor | None = None

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") == "conv2d":
            self.weight = args[1]
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def computed_weight(module: Any) -> Tensor:
    """The weight that such a convolution computes from its own."""
    pairs = zip(module.kernel_size, module.dilation, strict=True)
    sides = [(kernel - 1) * dilation + 1 for kernel, dilation in pairs]
    with _Weight() as caught:
        module.forward(module.weight.new_zeros(1, module.in_channels, *sides))
    found: Tensor | None = caught.weight
    assert found is not None
    return found


def _become_plain(module: Any) -> None:
    weight = nn.Parameter(computed_weight(module).clone(), module.weight.requires_grad)
    module.weight, module.gain = weight, None
    module.__class__ = SamePaddedConv if getattr(module, "same_pad", False) else nn.Conv2d


class _Standardised(Layer):
    def cut(self, side: SideName, gone: IntArray) -> None:
        _become_plain(self.module)
        super().cut(side, gone)

    @property
    def map(self) -> LinearMap | None:
        whole = super().map
        return whole and LinearMap(computed_weight(self.module).flatten(2), whole.bias)

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        _become_plain(self.module)
        super().set_map(weight, bias)


@register_layer
class SamePadded(Conv):
    """A plain convolution that was a standardised one."""

    types: ClassVar[tuple[type | str, ...]] = (SamePaddedConv,)

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        padded = pad_same(self.module, x) if getattr(self.module, "same_pad", False) else x
        return super().rows_read(padded, at, made)


@register_layer
class StandardisedConv(_Standardised, SamePadded):
    """One that mixes its input channels; cut or refitted, it is a plain convolution."""

    types, kind = TYPES, "standardised conv"


@register_layer
class StandardisedGroupedConv(_Standardised, GroupedConv):
    """One in groups."""

    types, kind = TYPES, "standardised grouped conv"
