"""Group-norms over channels: their statistics run over the channels of a group, and positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mipp.layers.answers import Side
from mipp.layers.layer import Layer
from mipp.layers.table import register_layer


@register_layer
class GroupNorm(Layer):
    """A group-norm; a unit is a whole group, or one channel of each where those are more.

    Without some groups it is what it was for the others; without some channels of each it is a
    norm of the other channels. A single group is a layer-norm over channels and positions, groups
    of one channel are an instance-norm.
    """

    types, kind, role = (nn.GroupNorm,), "group norm", "carries"
    operators = frozenset({"group_norm", "native_group_norm"})

    @property
    def couples(self) -> bool:
        return bool(self.module.num_groups**2 <= self.module.num_channels)

    @property
    def outputs(self) -> Side:
        channels, tensors = self.module.num_channels, {"weight": 0, "bias": 0}
        groups = np.arange(channels).reshape(self.module.num_groups, -1)
        if not self.couples:
            sizes = ("num_channels", "num_groups")
            return Side(channels, tensors=tensors, sizes=sizes, units=groups)
        return Side(channels, tensors=tensors, sizes=("num_channels",), units=groups.T)

    def on_kept(self, function: Callable[..., Tensor], args: Any, kwargs: Any, kept: Tensor) -> Any:
        def some(value: Any) -> Any:
            return value[kept] if isinstance(value, Tensor) else value

        x: Tensor = args[0]
        factors = {name: some(value) for name, value in kwargs.items()}
        result = torch.zeros_like(x)
        result[:, kept] = function(x[:, kept], *map(some, args[1:]), **factors)
        return result
