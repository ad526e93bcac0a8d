"""Convolutions that mix their input channels, and grouped ones, which make each group its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers.answers import IntArray, Side, Window
from mipp.layers.layer import Layer
from mipp.layers.rows import kernel_pixels, kernel_rows, map_rows
from mipp.layers.table import register_layer

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


@register_layer
class Conv(MixingConv):
    """A convolution of maps of one to three axes."""

    types, kind = TYPES, "conv"

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
class GroupedConv(ConvInGroups):
    """A convolution in groups, a depthwise one among them."""

    types, kind = TYPES, "grouped conv"

    @property
    def window(self) -> Window:
        return window_of(self.module)


def window_of(module: Any) -> Window:
    """The window of a convolution; one with padding "same" begins with the smaller half."""
    before = tuple(module._reversed_padding_repeated_twice[::2][::-1])
    return Window(module.kernel_size, module.stride, module.dilation, before)
