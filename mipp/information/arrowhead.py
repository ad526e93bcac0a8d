"""Inverse of the covariance of patches of which some taps never meet, without their zeros.

Of a 2 x 2 map under a 3 x 3 kernel no position sees two of the kernel's corners: each of them can
be eliminated by itself, and an inverse of five taps is left of one of nine. On a map of one pixel
all taps but one are nothing but ridge.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mipp.information.inverse import invert


def invert_covariance(matrix: Tensor, mean: Tensor, met: Tensor | None) -> int:
    """Inverse of a covariance with a ridge, in its place; 0, or the pivot at which it stops.

    Parameters
    ----------
    matrix : (d, d), d = channels * taps.
    mean : (d,) of the features.
    met : (taps, taps), whether two taps held something in one of the rows; None if not known.
    """
    apart = [] if met is None else taps_apart(met)
    if met is None or len(apart) < 2:
        return invert(matrix)
    return _invert_arrowhead(matrix, mean, met, apart)


def taps_apart(met: Tensor) -> list[int]:
    """Taps of which no two hold something in the same row; those that meet fewest come first.

    Parameters
    ----------
    met : (taps, taps), whether two taps hold something in one of the rows.
    """
    found: list[int] = []
    for tap in torch.argsort(met.sum(1), stable=True).tolist():
        if not met[tap, found].any():
            found.append(tap)
    return found


@dataclass(frozen=True)
class _Head:
    """A tap that is eliminated by itself."""

    rows: Tensor  # of the matrix, (channels,)
    beside: Tensor  # places of what it meets among the rest, (met,)
    inverse: Tensor  # of its own block, (channels, channels)
    pull: Tensor  # inverse @ its block beside what it meets, (channels, met)


def _invert_arrowhead(matrix: Tensor, mean: Tensor, met: Tensor, apart: list[int]) -> int:
    """The inverse, by elimination of the taps apart.

    The zeros are those of the second moments. Beside a feature that is always one, the inverse of
    these is that of the covariance.

    Source: block elimination, Golub and Van Loan, Matrix Computations, section 3.2.
    """
    kept = [tap for tap in range(len(met)) if tap not in apart]
    features = torch.arange(len(mean), device=matrix.device).view(-1, len(met))
    channels = len(features)
    rest = features[:, kept].flatten()
    places = torch.arange(len(rest), device=matrix.device).view(channels, len(kept))
    one = torch.tensor([len(rest)], device=matrix.device)  # the feature that is always one
    core = _bordered(_moments(matrix, mean, rest, rest), mean[rest])
    heads: list[_Head] = []
    for tap in apart:
        rows = features[:, tap]
        beside = places[:, [i for i, other in enumerate(kept) if met[tap, other]]].flatten()
        across = torch.cat([_moments(matrix, mean, rows, rest[beside]), mean[rows, None]], 1)
        beside, own = torch.cat([beside, one]), _moments(matrix, mean, rows, rows)
        if failed := invert(own):
            return len(heads) * channels + failed
        heads.append(_Head(rows, beside, own, own @ across))
        core[beside[:, None], beside] -= across.mT @ heads[-1].pull
    if failed := invert(core):
        return len(heads) * channels + failed
    matrix[rest[:, None], rest] = core[:-1, :-1]
    for i, head in enumerate(heads):
        side = head.pull @ core[head.beside].neg_()
        matrix[head.rows[:, None], rest] = side[:, :-1]
        matrix[rest[:, None], head.rows] = side[:, :-1].mT
        for other in heads[i:]:
            corner = side[:, other.beside] @ other.pull.mT.neg()
            if other is head:
                corner = head.inverse + (corner + corner.mT) / 2
            matrix[head.rows[:, None], other.rows] = corner
            matrix[other.rows[:, None], head.rows] = corner.mT
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
