"""Dimensions of heads in another basis, in which the first of them tell the most.

    logits = q k^T        q A (k B)^T is the best approximation of as many dimensions
    outputs = W v         W' (V v)    likewise

The softmax of a query's logits does not change with what they have in common, so that keys count by
how they differ between the tokens of an image. What values lose of their mean is the bias's.

Source: Wong et al. 2025, A3 (arXiv:2505.12942v4), for both pairs; the centred moments are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mipp.layers.heads import Weights

TINY = 1e-12  # of the first dimension's energy, below which one tells nothing
NOISE = 1e-13  # of the second moment, below which a variance is rounding


class Moments(NamedTuple):
    """Sums over tokens of what one attention computes, by head, float64."""

    queries: Tensor  # q q^T (heads, size, size)
    keys: Tensor  # of keys less the mean of their image
    mixed: Tensor  # of values that attention has mixed
    mixed_sum: Tensor  # (heads, size)
    tokens: Tensor  # how many of these

    def __add__(self, other: Moments) -> Moments:  # type: ignore[override]
        return Moments(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Bases:
    """Maps of a head's dimensions; with k of their columns, a head of size k.

    `queries` and `keys` turn rows of projections (heads, size, size), `values` too, and `outputs`
    is what the output projection is multiplied with; `mean` is that of mixed values. `lost[k]` is
    the share of the variance of logits, or of outputs, that k dimensions do not tell, the larger.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    outputs: Tensor
    mean: Tensor
    lost: Tensor  # (size + 1,)


def bases_of(sums: Moments, outputs: Tensor, *, centred: bool) -> Bases:
    """The bases in which the first dimensions tell the most.

    Parameters
    ----------
    outputs : the output projection by head (heads, features, size).
    centred : whether it has a bias, which takes what is lost of the mean.
    """
    q, k = _root(sums.queries), _root(sums.keys)
    left, logits, right = torch.linalg.svd(q @ k)
    # q left = q^-1 right * logits, and the other way round: nothing need be inverted
    queries, keys = _scaled(k @ right.mT, q @ left, logits.square(), logits)
    mean = sums.mixed_sum / sums.tokens if centred else torch.zeros_like(sums.mixed_sum)
    moments = sums.mixed / sums.tokens
    root = _root(moments - mean[:, :, None] * mean[:, None], least=NOISE * _trace(moments))
    left, made, _ = torch.linalg.svd(outputs @ root, full_matrices=False)
    seen = outputs.mT @ left
    absent = root.shape[1] - made.shape[1]  # there may be fewer outputs than dimensions
    seen, energy = F.pad(seen, (0, absent)), F.pad(made, (0, absent)).square()
    values, back = _scaled(seen, root @ root @ seen, energy, energy)
    lost = torch.maximum(_tails(logits.square()), _tails(energy))
    return Bases(queries, keys, values, back, mean, lost)


def in_bases(weights: Weights, bases: Bases, size: int) -> Weights:
    """The first dimensions of the heads in these bases.

    The logits are as large as before: an attention divides them by the root of its size.
    """
    scale = (size / weights.size) ** 0.5
    turn = torch.stack([scale * bases.queries, bases.keys, bases.values])[..., :size]
    return _turned(weights, turn, bases.outputs[..., :size], _lost(bases, size))


def as_wide(weights: Weights, bases: Bases, size: int) -> Weights:
    """Of as many dimensions as before what `in_bases` computes with fewer, in no other basis."""
    queries, keys, values, outputs = (
        basis[..., :size] for basis in (bases.queries, bases.keys, bases.values, bases.outputs)
    )
    logits = queries @ keys.mT
    same = torch.eye(weights.size, dtype=logits.dtype, device=logits.device).expand_as(logits)
    turn = torch.stack([logits, same, same])
    return _turned(weights, turn, outputs @ values.mT, _lost(bases, size))


def any_bases(weights: Weights) -> Bases:
    """Turned and stretched ones that no data speak for."""
    heads, size = weights.rows.shape[1:3]
    drawn = torch.Generator("cpu").manual_seed(0)
    matrices = torch.randn(heads, size, size, generator=drawn, dtype=torch.float64, device="cpu")
    turn, stretch = torch.linalg.qr(matrices).Q, 2 ** torch.linspace(-1, 1, size, device="cpu")
    long, short = ((turn * factors).to(weights.rows.device) for factors in (stretch, 1 / stretch))
    return Bases(long, short, short, long, long.new_zeros(heads, size), long.new_zeros(size + 1))


def _turned(weights: Weights, turn: Tensor, back: Tensor, lost: Tensor) -> Weights:
    """With other rows of queries, keys and values; `lost` of these goes into the bias."""
    rows, shifts, outputs, bias = weights
    return Weights(
        torch.einsum("phsk,phsi->phki", turn, rows),
        None if shifts is None else torch.einsum("phsk,phs->phk", turn, shifts),
        outputs @ back,
        None if bias is None else bias + torch.einsum("hfs,hs->f", outputs, lost),
    )


def _lost(bases: Bases, size: int) -> Tensor:
    """What so many dimensions do not tell of the mean (heads, size)."""
    told = bases.outputs[..., :size] @ bases.values[..., :size].mT @ bases.mean[..., None]
    return bases.mean - told[..., 0]


def _root(moments: Tensor, least: Tensor | None = None) -> Tensor:
    """Square roots of symmetric matrices, without directions that have no more than the least."""
    values, vectors = torch.linalg.eigh(moments)
    values = values.where(values > (0 if least is None else least[:, None]), 0)
    root: Tensor = vectors * values.sqrt()[:, None] @ vectors.mT
    return root


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def _scaled(
    first: Tensor, second: Tensor, energy: Tensor, product: Tensor
) -> tuple[Tensor, Tensor]:
    """Columns whose products are divided by these, as long on either side: weights to train on.

    Of a dimension that tells nothing the second is 0.
    """
    tells = energy > TINY * energy[:, :1]
    lengths = [side.norm(dim=1).clamp_min(1e-150) for side in (first, second)]
    length = (lengths[0] * lengths[1] / product.where(tells, torch.ones_like(product))).sqrt()
    first = first * (length.where(tells, torch.ones_like(length)) / lengths[0])[:, None]
    second = second * (length.where(tells, torch.zeros_like(length)) / lengths[1])[:, None]
    return first, second


def _tails(energy: Tensor) -> Tensor:
    """Share of the energy of all heads beyond the first k of each, for k from 0 (size + 1,)."""
    energy = energy.sum(0)
    beyond = energy.flip(0).cumsum(0).flip(0)
    return torch.cat([beyond, beyond.new_zeros(1)]) / beyond[0].clamp_min(1e-300)
