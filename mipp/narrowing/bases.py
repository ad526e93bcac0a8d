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

TINY = 1e-12  # of the first dimension's energy, below which one tells nothing


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
    covariance = sums.mixed / sums.tokens - mean[:, :, None] * mean[:, None]
    left, made, _ = torch.linalg.svd(outputs @ _root(covariance), full_matrices=False)
    seen = outputs.mT @ left
    absent = covariance.shape[1] - made.shape[1]  # there may be fewer outputs than dimensions
    seen, energy = F.pad(seen, (0, absent)), F.pad(made, (0, absent)).square()
    values, back = _scaled(seen, covariance @ seen, energy, energy)
    lost = torch.maximum(_tails(logits.square()), _tails(energy))
    return Bases(queries, keys, values, back, mean, lost)


def _root(moments: Tensor) -> Tensor:
    """Square roots of symmetric matrices."""
    values, vectors = torch.linalg.eigh(moments)
    root: Tensor = vectors * values.clamp_min(0).sqrt()[:, None] @ vectors.mT
    return root


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
