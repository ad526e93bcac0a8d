"""Transposed convolutions: each place of the input is spread over places of the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mipp.layers.answers import IntArray, LinearMap, Window
from mipp.layers.conv import ConvInGroups, MixingConv
from mipp.layers.layer import SideName, keep_indices
from mipp.layers.rows import kernel_rows, spread_pixels
from mipp.layers.table import register_layer

TYPES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@register_layer
class TransposedConv(MixingConv):
    """A transposed convolution, whose weight is (inputs, outputs, *kernel)."""

    types, kind, axes = TYPES, "transposed conv", (0, 1)

    @property
    def window(self) -> Window:
        module = self.module
        return Window(module.kernel_size, module.stride, module.dilation, module.padding)

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        return kernel_rows(x, *spread_pixels(at, x, self.window, made))

    @property
    def map(self) -> LinearMap:
        return LinearMap(self.module.weight.transpose(0, 1).flatten(2), self.module.bias)

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        inputs, outputs, *kernel = self.module.weight.shape
        turned = weight.reshape(outputs, inputs, *kernel).transpose(0, 1)
        super().set_map(turned, bias)


@register_layer
class GroupedTransposedConv(ConvInGroups):
    """A transposed convolution in groups: weight (inputs, outputs of a group, *kernel)."""

    types, kind = TYPES, "grouped transposed conv"
    cut_along: ClassVar[Mapping[str, int]] = {"bias": 0}

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
