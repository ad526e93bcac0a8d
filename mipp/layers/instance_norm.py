"""Instance-norms, which take their statistics from each channel of each image."""

from __future__ import annotations

from torch import nn

from mipp.layers.answers import Side
from mipp.layers.batch_norm import TENSORS
from mipp.layers.layer import Layer
from mipp.layers.table import register_layer


@register_layer
class InstanceNorm(Layer):
    """An instance-norm; torch runs it as a batch-norm of a reshaped input."""

    types = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    kind, role, operators = "instance norm", "carries", frozenset({"instance_norm"})

    @property
    def outputs(self) -> Side:
        tensors = dict.fromkeys(TENSORS, 0)
        return Side(self.module.num_features, tensors=tensors, sizes=("num_features",))
