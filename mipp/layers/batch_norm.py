"""Batch-norms, which treat every channel on its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mipp.layers.answers import Side, Statistics
from mipp.layers.layer import Layer
from mipp.layers.table import register_layer

TENSORS = ("weight", "bias", "running_mean", "running_var")


@register_layer
class BatchNorm(Layer):
    """A batch-norm; timm's hold an activation too."""

    types, kind, role = (_BatchNorm,), "batch norm", "carries"
    operators = frozenset(
        {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
         "batch_norm", "_native_batch_norm_legit", "miopen_batch_norm", "_batch_norm_no_update",
         "_batch_norm_with_update"}
    )  # fmt: skip

    @property
    def outputs(self) -> Side:
        tensors = dict.fromkeys(TENSORS, 0)
        return Side(self.module.num_features, tensors=tensors, sizes=("num_features",))

    @property
    def activates(self) -> bool:
        return not all(isinstance(part, nn.Identity) for part in self.module.children())

    @property
    def factors(self) -> Tensor:
        weight: Tensor | None = self.module.weight
        return torch.ones(self.module.num_features, device="cpu") if weight is None else weight

    @property
    def statistics(self) -> Statistics | None:
        norm = self.module
        if norm.running_mean is None:
            return None
        return Statistics(norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
