"""torch's stack of encoder layers, on padded tokens instead of nested tensors.

In eval mode, without gradients, torch packs what a padding mask leaves into nested tensors, which
its fused layers read and an attention that was cut, or is watched, does not. Where it unpacks them,
tokens that were padded are zero: those are, here too.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Tensor, nn

from mipp.layers.attention import PrunedAttention
from mipp.layers.layer import Layer
from mipp.layers.table import register_layer


def encode(
    module: Any,
    src: Tensor,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,
) -> Tensor:
    """`nn.TransformerEncoder.forward`."""
    x, padding = src, src_key_padding_mask
    for layer in module.layers:
        x = layer(x, mask, padding, is_causal=bool(is_causal))
    if padding is not None and mask is None and src.ndim == 3 and not module.training:
        gone = padding.bool()  # one to be added is -inf there
        aligned = (gone[:, 1:] | ~gone[:, :-1]).all()  # others are not packed
        x = x.masked_fill((gone & aligned)[..., None], 0)
    return x if module.norm is None else module.norm(x)


class PaddedEncoder(nn.TransformerEncoder):
    """A stack of which attentions were cut."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return encode(self, *args, **kwargs)


@register_layer
class Encoder(Layer):
    """A stack that may pack tokens; its layers are what is cut."""

    types, kind, role = (nn.TransformerEncoder,), "encoder", "parts"

    @classmethod
    def fits(cls, module: Any) -> bool:
        return bool(getattr(module, "use_nested_tensor", False))

    def twin(self) -> Callable[..., Any] | None:
        own = type(self.module) is nn.TransformerEncoder
        return MethodType(encode, self.module) if own else None

    def settle(self) -> None:
        """Fused layers read attentions as torch makes them."""
        pruned = any(isinstance(part, PrunedAttention) for part in self.module.modules())
        if pruned and type(self.module) is nn.TransformerEncoder:
            self.module.__class__ = PaddedEncoder
