"""Transposed convolutions, of which the cost alone is known."""

from __future__ import annotations

from typing import Any

from torch import nn

from mipp.layers.answers import Side
from mipp.layers.layer import Layer
from mipp.layers.table import register_layer


@register_layer
class TransposedConv(Layer):
    """A transposed convolution; it keeps the channels on both sides whole."""

    types = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    kind, role, operators = "transposed conv", "fixed", frozenset({"convolution"})

    @property
    def outputs(self) -> Side:
        return Side(self.module.out_channels)

    @property
    def inputs(self) -> Side:
        return Side(self.module.in_channels)

    def macs(self, inputs: tuple[Any, ...], output: Any) -> int:
        """It spreads each element of its input, where a convolution gathers each of its output."""
        return int(inputs[0].numel()) * int(self.module.weight[0].numel())
