"""Multi-head attention whose heads can be cut and whose output projection can be watched.

torch's module hands its weights to one function, so that hooks on its projection never run, and
its head size follows from the width of the embedding, so that no head could be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers.window_attention import HOME, attend_windows, is_window_attention


def is_plain(module: nn.Module) -> bool:
    """Whether `attend` computes what this module computes."""
    return (
        isinstance(module, nn.MultiheadAttention)
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )


def has_fused_projection(module: nn.Module | None) -> bool:
    """Whether this looks like an attention that cuts one linear layer `qkv` into its heads.

    Such are timm's, which read the number and the size of heads from their attributes. Whether
    heads can really go is for the graph's probe to say.
    """
    parts = [getattr(module, name, None) for name in ("qkv", "proj")]
    numbers = [getattr(module, name, None) for name in ("num_heads", "head_dim")]
    if not all(isinstance(n, int) for n in numbers):
        return False
    width = int(numbers[0] or 0) * int(numbers[1] or 0)
    widths = [(part.in_features, part.out_features) for part in parts if type(part) is nn.Linear]
    return len(widths) == 2 and (widths[0][1], widths[1][0]) == (3 * width, width)


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
    """Attention that has lost heads, or features of the embedding that it reads."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        return attend(self, *args, **kwargs)

    def _reset_parameters(self) -> None:
        """As torch draws them; its own method looks for weights in three parts here."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)


def keep_heads(module: nn.MultiheadAttention, kept: Tensor) -> None:
    """Cut the in-projection to these heads, in place."""
    size = module.head_dim
    rows = (kept[:, None] * size + torch.arange(size)).flatten()
    blocks = torch.cat([part * module.num_heads * size + rows for part in range(3)])
    module.in_proj_weight = _rows(module.in_proj_weight, blocks)
    if module.in_proj_bias is not None:
        module.in_proj_bias = _rows(module.in_proj_bias, blocks)
    module.num_heads = len(kept)
    _become_pruned(module)


def keep_inputs(module: nn.MultiheadAttention, kept: Tensor) -> None:
    """Cut the in-projection to these features of the embedding, in place."""
    module.in_proj_weight = _rows(module.in_proj_weight, kept, axis=1)
    module.embed_dim = module.kdim = module.vdim = len(kept)
    _become_pruned(module)


def in_projection(module: nn.MultiheadAttention) -> nn.Linear:
    """The projection to query, key and value as a linear layer that holds the same parameters."""
    rows, columns = module.in_proj_weight.shape
    layer = nn.Linear(columns, rows, bias=module.in_proj_bias is not None, device="meta")
    layer.weight, layer.bias = module.in_proj_weight, module.in_proj_bias
    return layer


def tokens_of(module: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """What an attention is given, as (images, tokens, embedding)."""
    return x if module.batch_first or x.ndim == 2 else x.transpose(0, 1)


def _become_pruned(module: nn.MultiheadAttention) -> None:
    module.__class__ = PrunedAttention
    module._qkv_same_embed_dim = False  # keeps torch's fused encoder layer away


def _rows(parameter: nn.Parameter, rows: Tensor, axis: int = 0) -> nn.Parameter:
    cut = parameter.detach().index_select(axis, rows.to(parameter.device))
    return nn.Parameter(cut, requires_grad=parameter.requires_grad)


def _twin(module: nn.Module) -> Callable[..., Any] | None:
    """What computes the same as this module's own forward, and lets hooks run."""
    if type(module) is nn.MultiheadAttention and is_plain(module):
        return attend
    own = type(module).__module__ == HOME  # not one that runs by its twin already
    return attend_windows if own and is_window_attention(module) else None


@contextmanager
def opened_attention(model: nn.Module) -> Iterator[None]:
    """Within the block, hooks on the projections of attention modules run."""
    opened = [module for module in model.modules() if "forward" not in module.__dict__]
    opened = [module for module in opened if _twin(module) is not None]
    for module in opened:
        module.forward = MethodType(_twin(module), module)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for module in opened:
            del module.__dict__["forward"]
