"""Convolutions that compute their weight from their own in every call, by its mean and deviation.

w = (weight - mean) / deviation of a filter, without some of its inputs: another w for the others

So a cut one keeps the weight that the whole one computed: it is a plain convolution from then on.
Known by what forward does, whoever wrote it. One that only scales its weight follows a cut, and
is a convolution like any other.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mipp.layers.answers import IntArray, LinearMap
from mipp.layers.conv import TYPES, Conv, GroupedConv
from mipp.layers.layer import Layer, SideName
from mipp.layers.table import register_layer

Key = tuple[object, ...]

_plain: dict[Key, type | None] = {}  # what is known already, by class and sizes


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

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(self, x))


class _Weight(TorchFunctionMode):
    """Keeps the weight that a convolution is called with."""

    weight: Tensor | None = None

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in ("conv1d", "conv2d", "conv3d"):
            self.weight = kwargs["weight"] if "weight" in kwargs else args[1]
        return function(*args, **kwargs)


@torch.no_grad()
def computed_weight(module: Any) -> Tensor | None:
    """The weight that such a convolution computes from its own; None where it does not run."""
    pairs = zip(module.kernel_size, module.dilation, strict=True)
    sides = [(kernel - 1) * dilation + 1 for kernel, dilation in pairs]
    # its own code may fail afterwards, once its weight has another shape than its sizes say
    with _Weight() as caught, suppress(Exception):
        module.forward(module.weight.new_zeros(1, module.in_channels, *sides))
    found: Tensor | None = caught.weight
    return found


def plain_class(module: Any) -> type | None:
    """The convolution that one becomes once its weight is computed; None for one that need not.

    Tried on a copy with random weights, once for a class and its sizes.
    """
    base: Any = next(kind for kind in TYPES if isinstance(module, kind))  # type: ignore[arg-type]
    if type(module).forward is base.forward:
        return None
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    sizes = (getattr(module, name) for name in names)
    key = (type(module), module.weight.shape[1] > 1, *sizes, *map(type, module.children()))
    if key not in _plain:
        _plain[key] = _plain_class(_random_copy(module), base)
    return _plain[key]


@torch.no_grad()
def _random_copy(module: Any) -> Any:
    twin = copy.deepcopy(module)
    twin = (twin.to_empty(device="cpu") if twin.weight.is_meta else twin.cpu()).double()
    for parameter in twin.parameters():
        parameter.copy_(_random(parameter.shape))
    return twin


def _random(shape: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


@torch.no_grad()
def _plain_class(module: Any, base: Any) -> type | None:
    found = computed_weight(module)
    if found is None or found.shape != module.weight.shape or _follows_cuts(module, found):
        return None
    x = _random((2, module.in_channels, *(2 * kernel + 7 for kernel in module.kernel_size)))
    for kind in (base, SamePaddedConv) if base is nn.Conv2d else (base,):
        plain = copy.deepcopy(module)
        _become(plain, kind)
        made, expected = plain.forward(x), module.forward(x)
        if made.shape == expected.shape and torch.allclose(made, expected, rtol=1e-9, atol=1e-9):
            return kind
    return None


def _follows_cuts(module: Any, found: Tensor) -> bool:
    """Whether a part of the weight makes that part of what the whole makes."""
    for axis in (0, 1):
        twin, size = copy.deepcopy(module), -(-found.shape[axis] // 2)
        twin.weight = nn.Parameter(twin.weight.narrow(axis, 0, size).clone())
        part = computed_weight(twin)
        expected = found.narrow(axis, 0, size)
        if part is None or part.shape != expected.shape or not torch.allclose(part, expected):
            return False
    return True


@torch.no_grad()
def _become(module: Any, kind: type) -> None:
    """Make a plain convolution of one, with the weight that it computes and nothing else."""
    found = computed_weight(module)
    assert found is not None
    module.weight = nn.Parameter(found.clone(), module.weight.requires_grad)
    for name in module._parameters.keys() - {"weight", "bias"}:
        setattr(module, name, None)
    module.__class__ = kind


class _Standardised(Layer):
    @classmethod
    def fits(cls, module: Any) -> bool:
        return super().fits(module) and plain_class(module) is not None

    def cut(self, side: SideName, gone: IntArray) -> None:
        self.settle()
        super().cut(side, gone)

    def settle(self) -> None:
        """In a network that was cut all are plain: what is refitted or loaded is their weight."""
        kind = plain_class(self.module)
        if kind is not None:  # not yet
            _become(self.module, kind)

    @property
    def map(self) -> LinearMap | None:
        whole, found = super().map, computed_weight(self.module)
        if whole is None or found is None:
            return whole
        return replace(whole, weight=self.laid_out(found))

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        self.settle()
        super().set_map(weight, bias)


@register_layer
class SamePadded(Conv):
    """A plain convolution that was a standardised one."""

    types: ClassVar[tuple[type | str, ...]] = (SamePaddedConv,)

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        kind = plain_class(self.module) or type(self.module)
        padded = pad_same(self.module, x) if kind is SamePaddedConv else x
        return super().rows_read(padded, at, made)


@register_layer
class StandardisedConv(_Standardised, SamePadded):
    """One that mixes its input channels; cut or refitted, it is a plain convolution."""

    types, kind = TYPES, "standardised conv"


@register_layer
class StandardisedGroupedConv(_Standardised, GroupedConv):
    """One in groups."""

    types, kind = TYPES, "standardised grouped conv"
