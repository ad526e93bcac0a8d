"""Backward elimination in closed form from few rows: downdates of a kernel matrix's inverse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.information.gaussian.blocks import Residuals
from mipp.information.gaussian.panel import unclear

EPSILON = torch.finfo(torch.float64).eps
DOUBT = 1e3  # a pivot must be this many times what rounding may have made of it


class DualElimination:
    """Elimination by downdates of K^-1, K = x x' + n * ridge, and of u = K^-1 y; W_F = x_F' u.

    Parameters
    ----------
    rows : x (n, channels, block), centred.
    kernel, dual : K^-1 (n, n) and u (n, m), both overwritten.
    penalty : the ridge.
    residuals : of the m targets.
    """

    def __init__(
        self, rows: Tensor, kernel: Tensor, dual: Tensor, penalty: float, residuals: Residuals
    ) -> None:
        self._x, self._kernel, self._dual, self._penalty = rows, kernel, dual, penalty
        self._dropped: set[int] = set()
        self._residuals = residuals
        # x' K^-1 x is near 1 and exact to about this much, since K is at least n * ridge
        largest = float(self._x.square().sum(0).max()) if self._x.numel() else 0.0
        self._error = EPSILON * largest / (rows.shape[0] * penalty)

    def loss(self, channel: int) -> float:
        return float(self._residuals.nats(self._solve(channel)[2].square().sum(0)))

    def losses(self) -> Tensor:
        losses = [0.0 if c in self._dropped else self.loss(c) for c in range(self._x.shape[1])]
        return torch.tensor(losses, dtype=torch.float64)

    def consider(self, channels: Sequence[int]) -> None:
        """Nothing to prepare."""

    def drop(self, channel: int) -> None:
        half, spread, projected = self._solve(channel)
        self._residuals.residual += projected.square().sum(0)
        side = torch.linalg.solve_triangular(half, spread.mT, upper=False)  # (b, n)
        self._dropped.add(channel)
        self._kernel.addmm_(side.mT, side)
        self._dual.addmm_(side.mT, projected, alpha=self._penalty**-0.5)

    def settle(self, channel: int) -> None:
        """Nothing to shrink: every step costs O(n^2 block)."""

    def _solve(self, channel: int) -> tuple[Tensor, Tensor, Tensor]:
        """Factor C of M = I - x_F' K^-1 x_F, K^-1 x_F, and sqrt(ridge) C^-1 W_F."""
        x = self._x[:, channel]
        spread = self._kernel @ x
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        half = _block_factor(eye - x.mT @ spread, DOUBT * self._error)
        projected = torch.linalg.solve_triangular(half, x.mT @ self._dual, upper=False)
        return half, spread, projected * self._penalty**0.5


def _block_factor(block: Tensor, least: float = 0.0) -> Tensor:
    """Lower Cholesky factor of one channel's block; squared pivots up to `least` are noise."""
    factor, failed = torch.linalg.cholesky_ex(block)
    if int(failed) or bool((factor.diagonal().square() <= least).any()):
        raise unclear(tuple(block.shape), int(failed))
    return factor  # type: ignore[no-any-return]
