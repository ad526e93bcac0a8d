"""Convolutions that mix their input channels, and grouped ones, which make each group its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers.answers import IntArray, LinearMap, Side, Window
from mipp.layers.layer import Layer, SideName, keep_indices
from mipp.layers.rows import kernel_pixels, kernel_rows, map_rows
from mipp.layers.table import register_layer
from mipp.layers.weights import write_weight

TYPES: tuple[type | str, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
OPERATORS = frozenset({"convolution", "mkldnn_convolution", "cudnn_convolution"})


class MixingConv(Layer):
    """What any convolution is, every output channel of which reads every input channel."""

    role, operators, sampled = "makes", OPERATORS, True
    weight, bias, filters = "weight", "bias", "weight"
    axes: ClassVar[tuple[int, int]] = (1, 0)  # of the weight: inputs and outputs

    @classmethod
    def fits(cls, module: Any) -> bool:
        return bool(module.groups == 1)

    @property
    def inputs(self) -> Side:
        axis = self.axes[0]
        return Side(self.module.weight.shape[axis], 1, {"weight": axis}, ("in_channels",))

    @property
    def outputs(self) -> Side:
        axis = self.axes[1]
        tensors = {"weight": axis, "bias": 0}
        return Side(self.module.weight.shape[axis], 1, tensors, ("out_channels",))

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return map_rows(y, at)


class ConvInGroups(Layer):
    """What any convolution in groups is: a group of channels is a unit."""

    role, operators = "both", OPERATORS
    bias, filters = "bias", "weight"
    cut_along: ClassVar[Mapping[str, int]] = {"weight": 0, "bias": 0}

    @classmethod
    def fits(cls, module: Any) -> bool:
        return bool(module.groups > 1)

    @property
    def inputs(self) -> Side:
        return Side(self.module.in_channels, units=self._units(self.module.in_channels))

    @property
    def outputs(self) -> Side:
        channels = self.module.out_channels
        sizes = ("out_channels", "in_channels", "groups")
        return Side(channels, 1, self.cut_along, sizes, self._units(channels))

    def _units(self, channels: int) -> IntArray:
        return np.arange(channels).reshape(self.module.groups, -1)


class WindowedConv(Layer):
    """What any convolution is that reads a window of its input at each place of its output."""

    @property
    def window(self) -> Window:
        return window_of(self.module)

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        window = self.window
        pixels, inside = kernel_pixels(at, x, window, made)
        if self.module.padding_mode != "zeros" and not bool(inside.all()):
            x = F.pad(x, self.module._reversed_padding_repeated_twice, self.module.padding_mode)
            bare = replace(window, padding=(0,) * len(window.padding))
            pixels, inside = kernel_pixels(at, x, bare, made)
        return kernel_rows(x, pixels, inside)


@register_layer
class Conv(WindowedConv, MixingConv):
    """A convolution of maps of one to three axes."""

    types, kind = TYPES, "conv"


@register_layer
class GroupedConv(WindowedConv, ConvInGroups):
    """A convolution in groups, a depthwise one among them.

    Where groups are few and large, or tied to one another, as by a sum over them, index j of every
    group is a unit instead, on either side apart; see `mipp.graph.across`.
    """

    types, kind, sampled = TYPES, "grouped conv", True

    def cut(self, side: SideName, gone: IntArray) -> None:
        whole = self.inputs if side == "inputs" else self.outputs
        kept = ~np.isin(whole.each(), gone)  # (groups, channels of a group)
        if not kept.any(1).all():
            super().cut(side, gone)
            return
        assert (kept == kept[0]).all()
        if side == "inputs":
            keep_indices(self.module, "weight", np.flatnonzero(kept[0]), 1)
        for name, axis in self.cut_along.items() if side == "outputs" else ():
            keep_indices(self.module, name, np.flatnonzero(kept), axis)
        setattr(self.module, "in_channels" if side == "inputs" else "out_channels", int(kept.sum()))

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return map_rows(y, at)

    @property
    def map(self) -> LinearMap | None:
        return LinearMap(self.laid_out(self.module.weight), self.module.bias, self.module.groups)

    def laid_out(self, weight: Tensor) -> Tensor:
        blocks = weight.flatten(1).chunk(self.module.groups)
        whole: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
        return whole.reshape(len(weight), self.module.in_channels, -1)

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        groups, each = self.module.groups, torch.arange(self.module.groups, device="cpu")
        apart = weight.reshape(groups, len(weight) // groups, groups, -1)
        write_weight(self.module, "weight", apart[each, :, each])
        if self.module.bias is not None:
            write_weight(self.module, "bias", bias)


def window_of(module: Any) -> Window:
    """The window of a convolution; one with padding "same" begins with the smaller half."""
    before = tuple(module._reversed_padding_repeated_twice[::2][::-1])
    return Window(module.kernel_size, module.stride, module.dilation, before)
