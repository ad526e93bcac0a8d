"""torch's stack of encoder layers, on padded tokens instead of nested tensors.

In eval mode, without gradients, torch packs what a padding mask leaves into nested tensors, which
its fused layers read and an attention that was cut, or is watched, does not. Where it unpacks them,
tokens that were padded are zero: those are, here too.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from mipp.layers.attention import PrunedAttention
from mipp.layers.layer import Layer
from mipp.layers.leaf import be_a_leaf
from mipp.layers.table import register_layer


class PaddedEncoder(nn.TransformerEncoder):
    """A stack of which attentions were cut."""

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """`nn.TransformerEncoder.forward`."""
        x, padding = src, src_key_padding_mask
        causal = is_causal is not None and is_causal
        for layer in self.layers:
            x = layer(x, src_mask=mask, src_key_padding_mask=padding, is_causal=causal)
        if padding is not None and mask is None and src.ndim == 3 and not self.training:
            gone = padding.to(torch.bool)  # one to be added is -inf there
            aligned = (gone[:, 1:] | ~gone[:, :-1]).all()  # others are not packed
            x = x.masked_fill((gone & aligned)[..., None], 0)
        norm = self.norm
        return x if norm is None else norm(x)


@register_layer
class Encoder(Layer):
    """A stack that may pack tokens; its layers are what is cut."""

    types, kind, role = (nn.TransformerEncoder,), "encoder", "parts"

    @classmethod
    def fits(cls, module: Any) -> bool:
        return bool(getattr(module, "use_nested_tensor", False))

    def twin(self) -> Callable[..., Any] | None:
        own = type(self.module) is nn.TransformerEncoder
        return MethodType(PaddedEncoder.forward, self.module) if own else None

    def settle(self) -> None:
        """Fused layers read attentions as torch makes them."""
        pruned = any(isinstance(part, PrunedAttention) for part in self.module.modules())
        if pruned and type(self.module) is nn.TransformerEncoder:
            self.module.__class__ = PaddedEncoder
            be_a_leaf(self.module)
