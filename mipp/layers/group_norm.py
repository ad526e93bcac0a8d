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
    """A group-norm; without some channels it is one of the other channels, in as many groups.

    Groups stay equal: a unit is one channel of each. A single group is a layer-norm over channels
    and positions, groups of one channel are an instance-norm.
    """

    types, kind, role = (nn.GroupNorm,), "group norm", "carries"
    operators = frozenset({"group_norm", "native_group_norm"})

    @property
    def couples(self) -> bool:
        return bool(self.module.num_groups < self.module.num_channels)

    @property
    def outputs(self) -> Side:
        channels, tensors = self.module.num_channels, {"weight": 0, "bias": 0}
        if not self.couples:
            return Side(channels, tensors=tensors, sizes=("num_channels", "num_groups"))
        units = np.arange(channels).reshape(self.module.num_groups, -1).T
        return Side(channels, tensors=tensors, sizes=("num_channels",), units=units)

    def on_kept(self, function: Callable[..., Tensor], args: Any, kwargs: Any, kept: Tensor) -> Any:
        def some(value: Any) -> Any:
            return value[kept] if isinstance(value, Tensor) else value

        x: Tensor = args[0]
        factors = {name: some(value) for name, value in kwargs.items()}
        result = torch.zeros_like(x)
        result[:, kept] = function(x[:, kept], *map(some, args[1:]), **factors)
        return result
