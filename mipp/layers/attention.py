"""Multi-head attention whose heads can be cut and whose output projection can be watched.

torch's module hands its weights to one function, so that hooks on its projection never run, and
its head size follows from the width of the embedding, so that no head could be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers.answers import Heads, IntArray, Side
from mipp.layers.layer import Layer, SideName
from mipp.layers.rows import token_rows
from mipp.layers.table import register_layer

OPERATORS = frozenset({"addmm", "mm", "linear"})


def is_plain(module: nn.Module) -> bool:
    """Whether `attend` computes what this module computes."""
    return (
        isinstance(module, nn.MultiheadAttention)
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )


def attend(
    module: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """`nn.MultiheadAttention.forward`, with the output projection called as a module."""

    def projected(*given: Tensor) -> tuple[Tensor, ...]:
        weights = module.in_proj_weight.chunk(3)
        biases = [None] * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
        return tuple(map(F.linear, given, weights, biases))

    return mix_values(module, projected, (query, key, value), *args, **kwargs)


def mix_values(
    module: Any,
    projected: Callable[..., tuple[Tensor, ...]],
    given: tuple[Tensor, ...],
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The rest of it: `given` are query, key and value, which `projected` is given tokens first."""
    batched = given[0].ndim == 3
    if not batched:
        given = tuple(x[:, None] for x in given)
    if module.batch_first and batched:
        given = tuple(x.transpose(0, 1) for x in given)
    size = module.head_dim
    q, k, v = (
        x.reshape(*x.shape[:2], -1, size).permute(1, 2, 0, 3)  # (n, heads, l, size)
        for x in projected(*given)
    )
    mask = _mask(attn_mask, key_padding_mask, q, k)
    if need_weights:
        scores = q @ k.transpose(2, 3) * size**-0.5
        attention = (scores if mask is None else scores + mask).softmax(3)
        mixed = F.dropout(attention, module.dropout, module.training) @ v
    else:
        dropout = module.dropout if module.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)
    output = module.out_proj(mixed.transpose(1, 2).flatten(2))  # (n, l, embedding)
    shares = attention if need_weights else None
    if shares is not None and average_attn_weights:
        shares = shares.mean(1)
    if not batched:
        return output[0], None if shares is None else shares[0]
    return (output if module.batch_first else output.transpose(0, 1)), shares


def _mask(mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """One mask to add to the scores (n, heads, queries, keys)."""
    total = None
    if mask is not None:
        mask = _additive(mask, q.dtype)
        total = mask if mask.ndim == 2 else mask.view(q.shape[0], q.shape[1], *mask.shape[1:])
    if padding is not None:
        blocked = _additive(padding, q.dtype).view(k.shape[0], 1, 1, k.shape[2])
        total = blocked if total is None else total + blocked
    return total


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)


class PrunedAttention(nn.MultiheadAttention):
    """Attention that has lost heads, or features of the embedding that it reads."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        return attend(self, *args, **kwargs)

    def _reset_parameters(self) -> None:
        """As torch draws them; its own method looks for weights in three parts here."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)


def tokens_of(module: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """What an attention is given, as (images, tokens, embedding)."""
    return x if module.batch_first or x.ndim == 2 else x.transpose(0, 1)


def become_pruned(module: nn.MultiheadAttention) -> None:
    """Let a plain attention compute with heads of whatever number and size."""
    module.__class__ = PrunedAttention
    module._qkv_same_embed_dim = False  # keeps torch's fused encoder layer away


@register_layer
class Attention(Layer):
    """An attention of its own queries and keys; what it makes are heads, each of all three parts.

    Its linear map is the in-projection; the out-projection is a layer of its own.
    """

    types, kind, role, operators = (nn.MultiheadAttention,), "attention", "makes", OPERATORS
    weight, bias, filters = "in_proj_weight", "in_proj_bias", "in_proj_weight"
    inner, sampled = True, True

    @classmethod
    def fits(cls, module: Any) -> bool:
        return is_plain(module)

    @property
    def inputs(self) -> Side:
        sizes = ("embed_dim", "kdim", "vdim")
        return Side(self.module.in_proj_weight.shape[1], -1, {"in_proj_weight": 1}, sizes)

    @property
    def outputs(self) -> Side:
        tensors = {"in_proj_weight": 0, "in_proj_bias": 0}
        makes, _ = features_of_heads(self.module.num_heads, self.module.head_dim)
        return Side(makes.size, -1, tensors, ("num_heads",), makes)

    def cut(self, side: SideName, gone: IntArray) -> None:
        super().cut(side, gone)
        become_pruned(self.module)

    def sides(self, inputs: tuple[Any, ...], output: Any) -> tuple[Tensor, Tensor]:
        tokens = tokens_of(self.module, inputs[0])
        weight, bias = self.module.in_proj_weight, self.module.in_proj_bias
        return tokens, F.linear(tokens, weight, bias)

    def made_shape(self, inputs: tuple[Any, ...], output: Any) -> torch.Size:
        tokens = tokens_of(self.module, inputs[0])
        return torch.Size((*tokens.shape[:-1], self.module.in_proj_weight.shape[0]))

    def with_input(self, inputs: tuple[Any, ...], x: Tensor) -> tuple[Any, ...]:
        return (x, x, x, *inputs[3:])  # query, key and value

    def objection(self, inputs: tuple[Any, ...]) -> str:
        alike = len(inputs) > 2 and inputs[0] is inputs[1] is inputs[2]
        return "" if alike else " beside another query, key or value"

    def images_axis(self, x: Tensor) -> int:
        return 1 if not self.module.batch_first and x.ndim == 3 else 0

    def twin(self) -> Callable[..., Any] | None:
        own = type(self.module) is nn.MultiheadAttention
        return MethodType(attend, self.module) if own else None

    def positions(self, made: torch.Size) -> int:
        return made[1:-1].numel()

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        return token_rows(x, at)[:, :, None]

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return token_rows(y, at)

    def heads(self) -> Heads:
        makes, reads = features_of_heads(self.module.num_heads, self.module.head_dim)
        return Heads({"": makes}, {"out_proj": reads})

    def alone(self) -> None:
        self.module.out_proj = nn.Identity()


@register_layer
class UncutAttention(Layer):
    """An attention that other code computes: its projections are apart or it adds keys."""

    types, kind, role, operators = (nn.MultiheadAttention,), "attention", "fixed", OPERATORS
    whole_because = ", whose projections are apart or which adds keys of its own"

    @classmethod
    def fits(cls, module: Any) -> bool:
        return not is_plain(module)

    @property
    def outputs(self) -> Side:
        return Side(self.module.embed_dim, -1)

    def with_input(self, inputs: tuple[Any, ...], x: Tensor) -> tuple[Any, ...]:
        return (x, x, x, *inputs[3:])


def features_of_heads(heads: int, size: int) -> tuple[IntArray, IntArray]:
    """Features of each head at the in-projection's output and at the out-projection's input."""
    reads = np.arange(heads * size).reshape(heads, size)
    return np.concatenate([reads + part * heads * size for part in range(3)], 1), reads
