"""PReLU, whose slopes are cut like any parameter that meets the channels."""

from __future__ import annotations

from torch import nn

from mipp.layers.layer import Layer
from mipp.layers.table import register_layer


@register_layer
class PReLU(Layer):
    """A rectifier with slopes; only their number is the module's to keep."""

    types, kind, role = (nn.PReLU,), "prelu", "parts"

    def settle(self) -> None:
        self.module.num_parameters = self.module.weight.numel()
