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
from torch import Tensor

TINY = 1e-12  # of the largest eigenvalue, below which there is nothing to divide by


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
    q, from_q = _roots(sums.queries)
    k, from_k = _roots(sums.keys)
    left, logits, right = torch.linalg.svd(q @ k)
    half = logits.sqrt()[:, None]
    mean = sums.mixed_sum / sums.tokens if centred else torch.zeros_like(sums.mixed_sum)
    v, from_v = _roots(sums.mixed / sums.tokens - mean[:, :, None] * mean[:, None])
    _, made, turned = torch.linalg.svd(outputs @ v)
    made = torch.cat([made, made.new_zeros(len(made), v.shape[1] - made.shape[1])], 1)
    return Bases(
        queries=from_q @ left * half,
        keys=from_k @ right.mT * half,
        values=from_v @ turned.mT,
        outputs=v @ turned.mT,
        mean=mean,
        lost=torch.maximum(_tails(logits), _tails(made)),
    )


def _roots(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Square roots of symmetric matrices, and their inverses where there is anything."""
    values, vectors = torch.linalg.eigh(moments)
    largest = values[:, -1:].clamp_min(torch.finfo(values.dtype).tiny)
    roots = values.clamp_min(TINY * largest).sqrt()[:, None]
    return vectors * roots @ vectors.mT, vectors / roots @ vectors.mT


def _tails(singular: Tensor) -> Tensor:
    """Share of the energy of all heads beyond the first k of each, for k from 0 (size + 1,)."""
    energy = singular.square().sum(0)
    beyond = energy.flip(0).cumsum(0).flip(0)
    return torch.cat([beyond, beyond.new_zeros(1)]) / beyond[0].clamp_min(1e-300)
