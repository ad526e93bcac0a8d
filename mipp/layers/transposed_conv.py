"""Transposed convolutions: each place of the input is spread over places of the output."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mipp.layers.answers import IntArray, LinearMap, Side, Window
from mipp.layers.conv import OPERATORS
from mipp.layers.layer import Layer, SideName, keep_indices
from mipp.layers.rows import kernel_rows, map_rows, spread_pixels
from mipp.layers.table import register_layer

TYPES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@register_layer
class TransposedConv(Layer):
    """A transposed convolution, whose weight is (inputs, outputs, *kernel)."""

    types, kind, role, operators = TYPES, "transposed conv", "makes", OPERATORS
    weight, bias, filters = "weight", "bias", "weight"
    sampled = True

    @classmethod
    def fits(cls, module: Any) -> bool:
        return bool(module.groups == 1)

    @property
    def inputs(self) -> Side:
        return Side(self.module.weight.shape[0], tensors={"weight": 0}, sizes=("in_channels",))

    @property
    def outputs(self) -> Side:
        tensors = {"weight": 1, "bias": 0}
        return Side(self.module.weight.shape[1], tensors=tensors, sizes=("out_channels",))

    @property
    def window(self) -> Window:
        module = self.module
        return Window(module.kernel_size, module.stride, module.dilation, module.padding)

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        return kernel_rows(x, *spread_pixels(at, x, self.window, made))

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return map_rows(y, at)

    @property
    def map(self) -> LinearMap:
        return LinearMap(self.module.weight.transpose(0, 1).flatten(2), self.module.bias)

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        inputs, outputs, *kernel = self.module.weight.shape
        turned = weight.reshape(outputs, inputs, *kernel).transpose(0, 1)
        super().set_map(turned, bias)


@register_layer
class GroupedTransposedConv(Layer):
    """A transposed convolution in groups: weight (inputs, outputs of a group, *kernel)."""

    types, kind, role, operators = TYPES, "grouped transposed conv", "both", OPERATORS
    bias, filters = "bias", "weight"

    @classmethod
    def fits(cls, module: Any) -> bool:
        return bool(module.groups > 1)

    @property
    def inputs(self) -> Side:
        channels = self.module.weight.shape[0]
        return Side(channels, units=np.arange(channels).reshape(self.module.groups, -1))

    @property
    def outputs(self) -> Side:
        channels = self.module.groups * self.module.weight.shape[1]
        return Side(
            channels,
            tensors={"bias": 0},
            sizes=("out_channels", "in_channels", "groups"),
            units=np.arange(channels).reshape(self.module.groups, -1),
        )

    def cut(self, side: SideName, gone: IntArray) -> None:
        sides = {"inputs": self.inputs, "outputs": self.outputs}
        left = ~np.isin(sides[side].each(), gone).any(1)
        rows = self.inputs.each()[left].ravel()
        super().cut(side, gone)
        keep_indices(self.module, "weight", rows, 0)

    def by_output(self, values: Tensor) -> Tensor:
        groups, inputs, outputs = self.module.groups, *values.shape[:2]
        apart = values.reshape(groups, inputs // groups, outputs, -1)
        return apart.transpose(1, 2).reshape(groups * outputs, -1)
