"""Layer-norms and RMS-norms over the last axis: their statistics run over the features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mipp.layers.answers import IntArray, Side
from mipp.layers.layer import Layer, SideName
from mipp.layers.table import register_layer


@register_layer
class LayerNorm(Layer):
    """A layer-norm or an RMS-norm; without a channel it is a norm of the other channels."""

    types: ClassVar[tuple[type | str, ...]] = (nn.LayerNorm, nn.RMSNorm)
    kind, role = "layer norm", "carries"
    operators = frozenset({"layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm"})
    couples = True

    @classmethod
    def fits(cls, module: Any) -> bool:
        return len(module.normalized_shape) == 1

    @property
    def outputs(self) -> Side:
        return Side(self.module.normalized_shape[0], -1, {"weight": 0, "bias": 0})

    def cut(self, side: SideName, gone: IntArray) -> None:
        super().cut(side, gone)
        self.module.normalized_shape = (self.outputs.features - len(gone),)

    def on_kept(self, function: Callable[..., Tensor], args: Any, kwargs: Any, kept: Tensor) -> Any:
        x: Tensor = args[0]
        factors = {
            name: value[kept] if isinstance(value, Tensor) else value
            for name, value in kwargs.items()
        }
        result = torch.zeros_like(x)
        result[..., kept] = function(x[..., kept], (int(kept.sum()),), *args[2:], **factors)
        return result


@register_layer
class WrittenLayerNorm(LayerNorm):
    """A module of any class that hands its own factors to `layer_norm`, as ConvNeXt's does.

    Known by its attributes. One that normalises channels of maps computes their means itself.
    """

    types = (nn.Module,)

    @classmethod
    def fits(cls, module: Any) -> bool:
        shape, weight = (getattr(module, key, None) for key in ("normalized_shape", "weight"))
        if not isinstance(shape, (tuple, list)) or not isinstance(weight, Tensor):
            return False
        code = getattr(type(module).forward, "__code__", None)
        calls = code is not None and "layer_norm" in code.co_names
        last = getattr(module, "data_format", "") != "channels_first"
        return calls and last and tuple(weight.shape) == tuple(shape) and len(shape) == 1
