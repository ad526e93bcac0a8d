"""Dimensions of queries and keys within heads, as many of each head, and the logits that they make.

    logits = q @ k^T: the sum over dimensions j of q[:, j] times k[:, j]

No layer reads a dimension, so that it is no channel of the graph: a selection names it beside them,
and a copy of the network gets attentions of another kind.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.activations import capture_whole
from mipp.criteria.shared.criterion import CriterionInput
from mipp.errors import ConfigError
from mipp.graph import ChannelGraph, ChannelGroup, Member
from mipp.graph.channels import Product

HOMES = ("timm.layers.attention", "timm.models.vision_transformer")  # newer releases, and older
SUFFIX = ", queries and keys"  # of an attention's name: its dimensions in a selection


class NarrowAttention(nn.Module):
    """timm's attention with fewer dimensions of queries and keys than of values; evaluates only.

    timm's own lays all three out by one size of heads, and scales the logits by it.

    Parameters
    ----------
    whole : the attention that it takes the place of.
    kept : dimensions of each head that stay (heads, k).
    maps : of what is left of each head's logits, q @ map @ k^T (heads, k, k).
    """

    def __init__(self, whole: Any, kept: Tensor, maps: Tensor) -> None:
        super().__init__()
        self.heads, self.scale, self.proj = whole.num_heads, whole.scale, whole.proj
        bias = whole.qkv.bias
        rows = whole.qkv.weight if bias is None else torch.cat([whole.qkv.weight, bias[:, None]], 1)
        rows = rows.detach().double().unflatten(0, (3, self.heads, -1))  # (3, heads, size, inputs)
        queries, keys = rows[:2, torch.arange(self.heads)[:, None], kept]
        left, values, right = torch.linalg.svd(maps.double())
        roots = values.sqrt()[..., None]  # half of the map goes to either side
        parts = {"q": roots * left.mT @ queries, "k": roots * right @ keys, "v": rows[2]}
        for name, part in parts.items():
            self.add_module(
                name, _linear(part.flatten(0, 1).to(whole.qkv.weight), bias is not None)
            )

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, heads, tokens, size)
            for part in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask, is_causal=is_causal, scale=self.scale
        )
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _linear(rows: Tensor, has_bias: bool) -> nn.Linear:
    """The layer of these weights, whose last column is the bias where there is one."""
    outputs, columns = rows.shape
    layer = nn.Linear(columns - has_bias, outputs, has_bias, device="meta")
    layer.weight = nn.Parameter(rows[:, : layer.in_features].clone())
    if has_bias:
        layer.bias = nn.Parameter(rows[:, -1].clone())
    return layer


def attentions_of(model: nn.Module) -> dict[str, Any]:
    """The attentions whose dimensions can go, by the name of their group of dimensions.

    Those with a norm on queries and keys, or with rotary positions, are not among them.
    """
    return {f"{name}{SUFFIX}": m for name, m in model.named_modules() if _is_plain(m)}


def _is_plain(module: nn.Module) -> bool:
    kind = type(module)
    if kind.__name__ != "Attention" or kind.__module__ not in HOMES:
        return False
    parts = (getattr(module, name, None) for name in ("q_norm", "k_norm", "norm", "gate"))
    return all(part is None or isinstance(part, nn.Identity) for part in parts)


@dataclass(frozen=True)
class Logits:
    """What the dimensions of one attention make of logits, summed over images and pairs of tokens.

    `products` holds those of (q_i k_j) and (q_l k_m) by head, float64 (heads, size**2, size**2):
    row i * size + j, column l * size + m. A logit is the sum of the q_j k_j, so that every map of
    least squares between logits follows from them.
    """

    products: Tensor

    @property
    def size(self) -> int:
        """Dimensions of a head."""
        return math.isqrt(self.products.shape[1])

    @property
    def energy(self) -> Tensor:
        """Squares of the logits that each dimension makes by itself (heads, size)."""
        return self.products.diagonal(dim1=1, dim2=2)[:, :: self.size + 1]

    @property
    def order(self) -> Tensor:
        """Dimensions of each head, those of most energy first (heads, size)."""
        return self.energy.argsort(dim=1, descending=True, stable=True)

    @property
    def by_rank(self) -> Tensor:
        """Energy of the r-th of this order, of all heads together (size,)."""
        return self.energy.sort(dim=1, descending=True).values.sum(0)


def logits_of(given: CriterionInput) -> dict[str, Logits]:
    """Of every attention in the dense network, by its group of dimensions."""
    attentions = attentions_of(given.model)
    layers = [f"{name.removesuffix(SUFFIX)}.qkv" for name in attentions]
    found: dict[str, Tensor] = {}
    for made in capture_whole(given.model, layers, "outputs", given.inputs()):
        for (name, attention), layer in zip(attentions.items(), layers, strict=True):
            [x] = made[layer]
            q, k, _ = x.double().unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
            of_q, of_k = (torch.einsum("nthi,nthl->nhil", side, side) for side in (q, k))
            sums = torch.einsum("nhil,nhjm->hijlm", of_q, of_k).flatten(3, 4).flatten(1, 2)
            found[name] = found[name] + sums if name in found else sums
    return {name: Logits(products) for name, products in found.items()}


def with_dimensions(graph: ChannelGraph, logits: Mapping[str, Logits]) -> ChannelGraph:
    """The graph with a group for each attention's dimensions, for a choice under its costs.

    Unit r is the dimension of r-th most energy of every head, in queries and keys. No layer reads
    it: what takes a group's readers does not take these. Costs are right while the heads stay.
    """
    groups, costs, products = dict(graph.groups), list(graph.costs), list(graph.products)
    for name, own in logits.items():
        attention, heads = name.removesuffix(SUFFIX), len(own.products)
        rows = own.order.T.numpy() + own.size * np.arange(heads)
        rows = np.concatenate([rows, rows + own.size * heads], 1)  # (size, 2 * heads)
        makes = (Member(f"{attention}.qkv", rows),)
        groups[name] = ChannelGroup(name, own.size, makes, (), ())
        costs = [
            replace(cost, outputs={**cost.outputs, name: rows.shape[1]})
            if cost.module == f"{attention}.qkv"
            else cost
            for cost in costs
        ]
        products = [part for one in products for part in _apart(one, attention, name, own)]
    widths = {name: group.width for name, group in groups.items()}
    return replace(
        graph, groups=groups, costs=tuple(costs), products=tuple(products), widths=widths
    )


def _apart(product: Product, attention: str, name: str, own: Logits) -> list[Product]:
    """Queries with keys, and the other half: shares of attention with values."""
    if not any(attention in factor for factor in product.factors):
        return [product]
    scores = Product(product.macs // 2, (*product.factors, {name: 1 / own.size}))
    return [scores, replace(product, macs=product.macs - scores.macs)]


def narrowed(model: nn.Module, kept: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network whose attentions have these dimensions alone (heads, k).

    Parameters
    ----------
    maps : by the same names, as `NarrowAttention` takes them.

    Raises
    ------
    ConfigError : the network has lost heads of such an attention.
    """
    model = copy.deepcopy(model)
    for name, own in kept.items():
        place = name.removesuffix(SUFFIX)
        whole = model.get_submodule(place)
        if len(own) != whole.num_heads:
            raise ConfigError(
                f"attention {place!r} cannot lose dimensions beside heads.\nExpected the "
                f"{len(own)} heads of the dense network, got {whole.num_heads}; keep them whole."
            )
        model.set_submodule(place, NarrowAttention(whole, own, maps[name]))
    return model
