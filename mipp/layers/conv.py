"""Convolutions that mix their input channels, and grouped ones, which make each group its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers.answers import Side, Window
from mipp.layers.layer import Layer
from mipp.layers.rows import kernel_pixels, kernel_rows, map_rows
from mipp.layers.table import register_layer

TYPES: tuple[type | str, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
OPERATORS = frozenset({"convolution", "mkldnn_convolution", "cudnn_convolution"})


@register_layer
class Conv(Layer):
    """A convolution, every output channel of which reads every input channel."""

    types, kind, role, operators = TYPES, "conv", "makes", OPERATORS
    weight, bias, filters = "weight", "bias", "weight"

    @classmethod
    def fits(cls, module: Any) -> bool:
        return bool(module.groups == 1)

    @property
    def inputs(self) -> Side:
        return Side(self.module.weight.shape[1], tensors={"weight": 1}, sizes=("in_channels",))

    @property
    def outputs(self) -> Side:
        tensors = {"weight": 0, "bias": 0}
        return Side(self.module.weight.shape[0], tensors=tensors, sizes=("out_channels",))

    @property
    def sampled(self) -> bool:
        return True

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

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return map_rows(y, at)


@register_layer
class GroupedConv(Layer):
    """A convolution in groups, a depthwise one among them: a group of channels is a unit."""

    types, kind, role, operators = TYPES, "grouped conv", "both", OPERATORS
    bias, filters = "bias", "weight"

    @classmethod
    def fits(cls, module: Any) -> bool:
        return bool(module.groups > 1)

    @property
    def inputs(self) -> Side:
        groups, block = self.module.groups, self.module.weight.shape[1]
        return Side(groups * block, units=np.arange(groups * block).reshape(groups, block))

    @property
    def outputs(self) -> Side:
        channels = self.module.weight.shape[0]
        return Side(
            channels,
            tensors={"weight": 0, "bias": 0},
            sizes=("out_channels", "in_channels", "groups"),
            units=np.arange(channels).reshape(self.module.groups, -1),
        )

    @property
    def window(self) -> Window:
        return window_of(self.module)


def window_of(module: Any) -> Window:
    """The window of a convolution; one with padding "same" begins with the smaller half."""
    before = tuple(module._reversed_padding_repeated_twice[::2][::-1])
    return Window(module.kernel_size, module.stride, module.dilation, before)
