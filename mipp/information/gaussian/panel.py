"""The channels at hand of a backward elimination, small enough for the CPU's cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg.lapack import dpotrf
from torch import Tensor

from mipp.information.gaussian.blocks import require_clear

PANEL = 256  # features decided before the products with all others
FloatArray = npt.NDArray[np.float64]


class Solved:
    """One channel's block of P factorised, and what its drop does to the targets."""

    __slots__ = ("factor", "projected", "rise")

    def __init__(self, factor: Tensor, weights: Tensor) -> None:
        self.factor = factor  # (b, b) lower Cholesky factor C
        self.projected = torch.linalg.solve_triangular(factor, weights, upper=False)  # (b, m)
        projected = self.projected.numpy()
        self.rise: FloatArray = np.einsum("ij,ij->j", projected, projected)  # (m,)


class Panel:
    """The channels at hand, with immediate downdates, on the CPU.

    A drop reaches the places after it; those before it are decided, or left for a later panel.

    Products are torch's: NumPy may bring a BLAS with threads of its own, which would wait busily
    for the cores that torch's threads need.
    """

    def __init__(
        self,
        places: Sequence[int],
        decidable: int,
        precision: Tensor,
        weights: Tensor,
        noise: float,
    ) -> None:
        self._block = len(precision) // max(len(places), 1)
        self._rows = {
            place: slice(i * self._block, (i + 1) * self._block) for i, place in enumerate(places)
        }
        self._decidable = set(places[:decidable])
        self._front = 0  # the first row after the last drop
        self._precision, self._weights, self._noise = precision, weights, noise
        self._values = precision.numpy()  # the same memory
        self._sides: list[Tensor] = []  # per drop, (panel, b)
        self._dropped: list[int] = []  # places
        self._projections: list[Tensor] = []

    def holds(self, place: int) -> bool:
        """Whether the channel at this place can be decided here."""
        return place in self._decidable and self._rows[place].start >= self._front

    def solve(self, place: int) -> Solved:
        rows = self._rows[place]
        factor, failed = dpotrf(self._values[rows, rows], lower=1, clean=1)
        require_clear(factor.diagonal(), failed, self._noise)
        return Solved(torch.from_numpy(factor), self._weights[rows])

    def drop(self, place: int, solved: Solved) -> None:
        rows = self._rows[place]
        rest = slice(rows.stop, None)
        self._front = rows.stop
        side = self._precision.new_zeros(len(self._precision), self._block)
        side[rows] = solved.factor
        if rows.stop < len(side):
            cross = self._precision[rows, rest]
            right = torch.linalg.solve_triangular(solved.factor, cross, upper=False)
            side[rest] = right.mT
            self._precision[rest, rest].addmm_(right.mT, right, alpha=-1)
            self._weights[rest].addmm_(right.mT, solved.projected, alpha=-1)
        self._sides.append(side)
        self._dropped.append(place)
        self._projections.append(solved.projected)

    def dropped(self) -> tuple[list[int], Tensor, Tensor]:
        """Places of the drops, the factor of their part of P (k, k), C^-1 W; k features."""
        sides = torch.cat(self._sides, 1)
        lower = torch.cat([sides[self._rows[place]] for place in self._dropped])
        return self._dropped, lower, torch.cat(self._projections)

    def __len__(self) -> int:
        """Channels dropped."""
        return len(self._dropped)
