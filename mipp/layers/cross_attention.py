"""Multi-head attention whose queries, keys and values are projected by layers of their own.

torch's module keeps all three projections in one matrix, or in parameters that no layer holds. Of
an attention to anything else than its queries, the columns of each are other channels: only apart
can they be cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mipp.layers.attention import answer, is_plain, mix_values, tokens_first
from mipp.layers.leaf import be_a_leaf


class ProjectedAttention(nn.Module):
    """What `nn.MultiheadAttention` computes, of four linear layers.

    Parameters
    ----------
    module : the attention that it takes the place of; has no keys of its own (`bias_k`).

    >>> import torch
    >>> attention = nn.MultiheadAttention(12, 3, kdim=8, vdim=6).eval()
    >>> given = torch.rand(5, 2, 12), torch.rand(4, 2, 8), torch.rand(4, 2, 6)
    >>> torch.allclose(attention(*given)[0], ProjectedAttention(attention)(*given)[0], atol=1e-6)
    True
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.batch_first, self.dropout = module.batch_first, module.dropout
        self.head_dim = module.head_dim
        weights = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
        if module.in_proj_weight is not None:
            weights = module.in_proj_weight.chunk(3)
        biases = [None] * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(_linear, weights, biases)
        self.out_proj = module.out_proj
        self.train(module.training)
        be_a_leaf(self)
        hooks = {key: own for key, own in vars(module).items() if "hook" in key}
        vars(self).update({key: own for key, own in hooks.items() if "state_dict" not in key})

    @property
    def embed_dim(self) -> int:
        """Features of a query."""
        return self.q_proj.in_features

    @property
    def num_heads(self) -> int:
        """Heads that are left."""
        heads: int = self.q_proj.out_features // self.head_dim
        return heads

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
        """As of `nn.MultiheadAttention`."""
        first = self.batch_first
        made = [
            self.q_proj(tokens_first(query, first)),
            self.k_proj(tokens_first(key, first)),
            self.v_proj(tokens_first(value, first)),
        ]
        dropout = self.dropout if self.training else 0.0
        mixed, shares = mix_values(
            made, self.head_dim, dropout, key_padding_mask, attn_mask, need_weights
        )
        output = self.out_proj(mixed)
        return answer(output, shares, query.ndim == 3, first, average_attn_weights)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer


def can_be_projected(module: nn.Module) -> bool:
    """Whether `ProjectedAttention` computes what the module does."""
    own = type(module) is nn.MultiheadAttention
    return own and module.bias_k is None and not module.add_zero_attn


def attends_elsewhere(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of torch's attention gives it other keys or values than its queries."""
    names = ("query", "key", "value")
    query, key, value = args[:3] + tuple(kwargs.get(name) for name in names[len(args) :])
    return not (is_plain(module) and query is key is value)
