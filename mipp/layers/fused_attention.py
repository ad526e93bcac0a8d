"""Attention modules that cut one linear layer `qkv` into their heads, as timm's do."""

from __future__ import annotations

from typing import Any

from torch import nn

from mipp.layers.answers import Heads
from mipp.layers.attention import features_of_heads
from mipp.layers.layer import Layer
from mipp.layers.table import register_layer


@register_layer
class FusedAttention(Layer):
    """An attention that reads the number and the size of its heads from its attributes.

    Known by these, whatever its class. Whether heads can really go is for the graph's probe to say.
    """

    types, kind, role = (nn.Module,), "fused attention", "parts"

    @classmethod
    def fits(cls, module: Any) -> bool:
        parts = [module._modules.get(name) for name in ("qkv", "proj")]
        if None in parts:
            return False
        numbers = [getattr(module, name, None) for name in ("num_heads", "head_dim")]
        if not all(isinstance(n, int) for n in numbers):
            return False
        width = int(numbers[0] or 0) * int(numbers[1] or 0)
        widths = [(p.in_features, p.out_features) for p in parts if type(p) is nn.Linear]
        return len(widths) == 2 and (widths[0][1], widths[1][0]) == (3 * width, width)

    def heads(self) -> Heads:
        heads, size = self.module.num_heads, self.module.head_dim
        makes, reads = features_of_heads(heads, size)
        sizes = {"num_heads": 1} | ({"attn_dim": size} if hasattr(self.module, "attn_dim") else {})
        return Heads({"qkv": makes}, {"proj": reads}, sizes=sizes)
