"""Linear layers, over vectors or over tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mipp.layers.answers import Side
from mipp.layers.layer import Layer
from mipp.layers.rows import token_rows
from mipp.layers.table import register_layer


@register_layer
class Linear(Layer):
    """A linear layer; of tokens (images, ..., features) every one is a row."""

    types, kind, role = (nn.Linear,), "linear", "makes"
    operators = frozenset({"addmm", "mm", "linear"})
    weight, bias, filters = "weight", "bias", "weight"

    @property
    def inputs(self) -> Side:
        return Side(self.module.weight.shape[1], -1, {"weight": 1}, ("in_features",))

    @property
    def outputs(self) -> Side:
        tensors = {"weight": 0, "bias": 0}
        return Side(self.module.weight.shape[0], -1, tensors, ("out_features",))

    @property
    def sampled(self) -> bool:
        return True

    def positions(self, made: torch.Size) -> int:
        return made[1:-1].numel()

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        return token_rows(x, at)[:, :, None]

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return token_rows(y, at)
