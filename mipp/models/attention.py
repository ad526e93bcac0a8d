"""Multi-head attention whose heads can be cut and whose output projection can be watched.

torch's module hands its weights to one function, so that hooks on its projection never run, and
its head size follows from the width of the embedding, so that no head could be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """`nn.MultiheadAttention.forward`, with the output projection called as a module."""
    batched = query.ndim == 3
    if not batched:
        query, key, value = (x[:, None] for x in (query, key, value))
    if module.batch_first and batched:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    heads, size = module.num_heads, module.head_dim
    weights = module.in_proj_weight.chunk(3)
    biases = [None] * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b)
        .reshape(*x.shape[:2], heads, size)
        .permute(1, 2, 0, 3)  # (n, heads, l, size)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    mask = _mask(attn_mask, key_padding_mask, q, k)
    if need_weights:
        scores = q @ k.transpose(2, 3) * size**-0.5
        attention = (scores if mask is None else scores + mask).softmax(3)
        mixed = F.dropout(attention, module.dropout, module.training) @ v
    else:
        dropout = module.dropout if module.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
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
    """Attention with some heads missing; a module becomes one when its heads are cut."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        return attend(self, *args, **kwargs)


def keep_heads(module: nn.MultiheadAttention, kept: Tensor) -> None:
    """Cut the projections to these heads, in place."""
    size = module.head_dim
    rows = (kept[:, None] * size + torch.arange(size)).flatten()
    blocks = torch.cat([part * module.num_heads * size + rows for part in range(3)])
    module.in_proj_weight = _rows(module.in_proj_weight, blocks)
    if module.in_proj_bias is not None:
        module.in_proj_bias = _rows(module.in_proj_bias, blocks)
    module.num_heads = len(kept)
    module.__class__ = PrunedAttention
    module._qkv_same_embed_dim = False  # keeps torch's fused encoder layer away


def _rows(parameter: nn.Parameter, rows: Tensor) -> nn.Parameter:
    cut = parameter.detach()[rows.to(parameter.device)].clone()
    return nn.Parameter(cut, requires_grad=parameter.requires_grad)


@contextmanager
def opened_attention(model: nn.Module) -> Iterator[None]:
    """Within the block, hooks on the output projections of attention modules run."""
    opened = [
        module
        for module in model.modules()
        if is_plain(module)
        and type(module) is nn.MultiheadAttention
        and "forward" not in module.__dict__
    ]
    for module in opened:
        module.forward = MethodType(attend, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in opened:
            del module.__dict__["forward"]
