"""Inverse of the covariance of patches of which some taps never meet.

Of a 2 x 2 map under a 3 x 3 kernel no position sees two of the kernel's corners: each of them can
be eliminated by itself, which leaves five taps to invert together, not nine. On a map of one pixel
all taps but one are nothing but ridge. The zeros are those of the second moments, not of the
covariance; beside a feature that is always one, the inverse of the second moments is that of the
covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mipp.information.gaussian.inverse import factorise, invert, invert_factored


def invert_covariance(matrix: Tensor, mean: Tensor, met: Tensor | None) -> int:
    """Inverse of a covariance with a ridge, in its place.

    Parameters
    ----------
    matrix : (d, d), d = channels * taps.
    mean : (d,) of the features.
    met : (taps, taps), whether two taps were both other than zero in one of the rows, and on the
        diagonal whether one ever was; None if not known.

    Returns
    -------
    0, or the pivot at which the factorisation stops, in the order of elimination.
    """
    apart = [] if met is None else taps_apart(met)
    if met is None or len(apart) < 2:
        return invert(matrix)
    return _invert_arrowhead(matrix, mean, met, apart)


def taps_apart(met: Tensor) -> list[int]:
    """Taps of which no two met, `met` as above; those that meet fewest are taken first."""
    found: list[int] = []
    for tap in torch.argsort(met.sum(1), stable=True).tolist():
        if not met[tap, found].any():
            found.append(tap)
    return found


@dataclass(frozen=True)
class _Head:
    """A tap that is eliminated by itself; the core is what is left, the always-one last."""

    rows: Tensor  # of the matrix, (channels,)
    beside: Tensor  # places in the core of the features that it meets, (b,)
    inverse: Tensor  # of its own block, (channels, channels)
    weights: Tensor  # of its regression on these features, (channels, b)


def _invert_arrowhead(matrix: Tensor, mean: Tensor, met: Tensor, apart: list[int]) -> int:
    """The inverse, by elimination of the taps apart.

    Source: block elimination, Golub and Van Loan, Matrix Computations, 4th edition, section 3.2.
    """
    kept = [tap for tap in range(len(met)) if tap not in apart]
    features = torch.arange(len(mean), device=matrix.device).view(-1, len(met))
    rest = features[:, kept].flatten()
    places = torch.arange(len(rest), device=matrix.device).view(len(features), len(kept))
    core = _bordered(_moments(matrix, mean, rest, rest), mean[rest])
    heads: list[_Head] = []
    for tap in apart:
        rows = features[:, tap]
        beside = places[:, [i for i, other in enumerate(kept) if met[tap, other]]].flatten()
        own = _moments(matrix, mean, rows, rows)
        across = torch.cat([_moments(matrix, mean, rows, rest[beside]), mean[rows, None]], 1)
        if failed := factorise(own):
            return sum(len(head.rows) for head in heads) + failed
        beside = torch.cat([beside, beside.new_tensor([len(rest)])])
        heads.append(_eliminate(core, rows, beside, own.mT, across))
    if failed := invert(core):
        return min(len(matrix) - len(rest) + failed, len(matrix))
    _write(matrix, rest, core, heads)
    return 0


def _moments(matrix: Tensor, mean: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Part of the second moments whose covariance the matrix is."""
    return matrix[rows[:, None], columns].addr_(mean[rows], mean[columns])


def _bordered(moments: Tensor, mean: Tensor) -> Tensor:
    """With a last feature that is always one."""
    d = len(mean)
    found = moments.new_ones(d + 1, d + 1)
    found[:d, :d] = moments
    found[:d, d] = found[d, :d] = mean
    return found


def _eliminate(core: Tensor, rows: Tensor, beside: Tensor, lower: Tensor, across: Tensor) -> _Head:
    """Take a tap out of the core's features that it meets, given its block's Cholesky factor.

    Solutions with the factor, not products with the inverse: these would cost the digits that
    what is left of the always-one may need.
    """
    half = torch.linalg.solve_triangular(lower, across, upper=False)
    core[beside[:, None], beside] -= half.mT @ half
    weights = torch.linalg.solve_triangular(lower.mT, half, upper=True)
    invert_factored(lower)
    return _Head(rows, beside, lower, weights)


def _write(matrix: Tensor, rest: Tensor, core: Tensor, heads: list[_Head]) -> None:
    """The inverse, from the core's and the heads eliminated before it."""
    matrix[rest[:, None], rest] = core[:-1, :-1]
    for i, head in enumerate(heads):
        side = head.weights @ core[head.beside].neg_()
        matrix[head.rows[:, None], rest] = side[:, :-1]
        matrix[rest[:, None], head.rows] = side[:, :-1].mT
        for other in heads[i:]:
            corner = side[:, other.beside] @ other.weights.mT.neg()
            if other is head:
                corner = head.inverse + (corner + corner.mT) / 2
            matrix[head.rows[:, None], other.rows] = corner
            matrix[other.rows[:, None], head.rows] = corner.mT
