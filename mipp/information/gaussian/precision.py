"""The precision matrix of a pair's features: whole, or of few rows and never formed.

X of 2 rows and 9 features: K = X X' + n ridge is (2, 2), of Cholesky factor L, and with
V = L^-1 X the precision matrix is (I - V'V) / ridge (Woodbury), of which any part is a product.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mipp.information.gaussian.blocks import diagonal_blocks


class Precision(Protocol):
    """P (d, d), float64, as a matrix less the product of sides; nobody writes to either."""

    @property
    def features(self) -> int:
        """Rows of P."""

    @property
    def device(self) -> torch.device:
        """Where its parts are made."""

    @property
    def noise(self) -> float:
        """What rounding may have made of a pivot of P, above that of the pivot itself."""

    @property
    def sides(self) -> Tensor:
        """S (d, k): P is the matrix of `entries` less S S'."""

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        """That matrix at these rows and columns, a copy (rows, columns)."""

    def blocks(self, channels: int) -> Tensor:
        """P's blocks on the diagonal, a copy (channels, block, block)."""


class Whole:
    """A precision matrix that is there.

    >>> Whole(torch.eye(3)).entries(torch.tensor([1]), torch.tensor([0, 1]))
    tensor([[0., 1.]])
    """

    noise = 0.0

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix
        self.features, self.device = len(matrix), matrix.device
        self.sides = matrix[:, :0]

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        return self._matrix[rows].index_select(1, columns)

    def blocks(self, channels: int) -> Tensor:
        return diagonal_blocks(self._matrix, channels).clone()


class LowRank:
    """The precision matrix (I - V'V) / ridge of few rows.

    Parameters
    ----------
    spread : V' (d, n).
    penalty : the ridge.
    noise : of a pivot of I - V'V, which loses digits where it is near zero.
    """

    def __init__(self, spread: Tensor, penalty: float, noise: float) -> None:
        self._penalty = penalty
        self.noise = noise / penalty
        self.features, self.device = len(spread), spread.device
        self.sides = spread / penalty**0.5

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        return (rows[:, None] == columns).to(self.sides).div_(self._penalty)

    def blocks(self, channels: int) -> Tensor:
        sides = self.sides.view(channels, -1, self.sides.shape[1])
        eye = torch.eye(sides.shape[1], dtype=sides.dtype, device=self.device)
        return torch.baddbmm(eye / self._penalty, sides, sides.mT, alpha=-1)
