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
from mipp.layers.leaf import be_a_leaf
from mipp.layers.rows import token_rows
from mipp.layers.table import register_layer

OPERATORS = frozenset({"addmm", "mm", "linear"})


def is_plain(module: nn.Module) -> bool:
    """Whether `PrunedAttention` computes what this module computes."""
    return (
        isinstance(module, nn.MultiheadAttention)
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )


def tokens_first(x: Tensor, batch_first: bool) -> Tensor:
    """What an attention is given, as (tokens, images, features)."""
    if x.ndim == 2:
        return x[:, None]
    return x.transpose(0, 1) if batch_first else x


def project(x: Tensor, part: int, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Queries (part 0), keys (1) or values (2) by one matrix for all three."""
    shift = None if bias is None else bias.chunk(3)[part]
    return F.linear(x, weight.chunk(3)[part], shift)


def mix_values(
    made: list[Tensor],
    size: int,
    dropout: float,
    padding: Tensor | None,
    mask: Tensor | None,
    need_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """What the output projection reads (n, tokens, features), and the shares (n, heads, l, l).

    Parameters
    ----------
    made : queries, keys and values (tokens, n, features).
    size : of a head.
    """
    q, k, v = [_by_head(x, size) for x in made]
    added = _mask(mask, padding, q, k)
    shares: Tensor | None = None
    if need_weights:
        scores = q @ k.transpose(2, 3) * size**-0.5
        shares = (scores if added is None else scores + added).softmax(3)
        mixed = F.dropout(shares, dropout) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, added, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2), shares


def answer(
    output: Tensor, shares: Tensor | None, batched: bool, batch_first: bool, average: bool
) -> tuple[Tensor, Tensor | None]:
    """Projected outputs (n, tokens, features) and shares, laid out as torch returns them."""
    if shares is not None and average:
        shares = shares.mean(1)
    if not batched:
        return output[0], None if shares is None else shares[0]
    return (output if batch_first else output.transpose(0, 1)), shares


def _by_head(x: Tensor, size: int) -> Tensor:
    """Projected (tokens, n, features) as (n, heads, tokens, size)."""
    return x.reshape(x.shape[0], x.shape[1], -1, size).permute(1, 2, 0, 3)


def _mask(mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """One mask to add to the scores (n, heads, queries, keys)."""
    total: Tensor | None = None
    if mask is not None:
        total = _additive(mask, q)
        if total.ndim > 2:
            total = total.view(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    if padding is not None:
        blocked = _additive(padding, q).view(k.shape[0], 1, 1, k.shape[2])
        total = blocked if total is None else total + blocked
    return total


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    none = torch.zeros(mask.shape, dtype=like.dtype, device=mask.device)
    return none.masked_fill(mask, -float("inf"))


class PrunedAttention(nn.MultiheadAttention):
    """Attention that has lost heads, or features of the embedding that it reads."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """`nn.MultiheadAttention.forward`, with the output projection called as a module."""
        first, weight, bias = self.batch_first, self.in_proj_weight, self.in_proj_bias
        given = [tokens_first(x, first) for x in (query, key, value)]
        made = [project(x, part, weight, bias) for part, x in enumerate(given)]
        dropout = self.dropout if self.training else 0.0
        mixed, shares = mix_values(
            made, self.head_dim, dropout, key_padding_mask, attn_mask, need_weights
        )
        output = self.out_proj(mixed)
        return answer(output, shares, query.ndim == 3, first, average_attn_weights)

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
    be_a_leaf(module)
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
        return MethodType(PrunedAttention.forward, self.module) if own else None

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
