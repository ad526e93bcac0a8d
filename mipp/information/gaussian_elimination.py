"""Backward elimination in closed form: downdates of the predictor as channels are taken away.

The block form of optimal brain surgeon applied to information: exact, and the cost of a step
does not depend on the number of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mipp.errors import SingularCovarianceError

if TYPE_CHECKING:
    from mipp.information.gaussian import PairState

EPSILON = torch.finfo(torch.float64).eps
DOUBT = 1e3  # a pivot must be this many times what rounding may have made of it


def diagonal_blocks(matrix: Tensor, channels: int) -> Tensor:
    """The (block, block) matrices on the diagonal, shape (channels, block, block)."""
    block = matrix.shape[0] // channels
    grid = matrix.view(channels, block, channels, block)
    return grid.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def explained(blocks: Tensor, crosses: Tensor) -> Tensor:
    """diag(C' A^-1 C) for each block A (c, b, b) and C (c, b, m); shape (c, m)."""
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(blocks), crosses, upper=False)
    rises: Tensor = half.square().sum(1)
    return rises


def _block_factor(block: Tensor, least: float = 0.0) -> Tensor:
    """Lower Cholesky factor of one channel's block; squared pivots up to `least` are noise."""
    factor, failed = torch.linalg.cholesky_ex(block)
    if int(failed) or bool((factor.diagonal().square() <= least).any()):
        raise unclear(tuple(block.shape), int(failed))
    return factor  # type: ignore[no-any-return]


def unclear(shape: tuple[int, ...], pivot: int) -> SingularCovarianceError:
    """What to raise where rounding has used up a channel's block."""
    where = f"whose factorisation stops at pivot {pivot}" if pivot else "that is all rounding"
    return SingularCovarianceError(
        "a channel's information cannot be told: rounding has used up its block of the "
        f"precision matrix.\nExpected a positive definite {shape} block, got one {where}; raise "
        "estimate.ridge."
    )


class _Losses:
    """Turns what a drop adds to each target's residual variance into nats."""

    def __init__(self, state: PairState, targets: Tensor) -> None:
        self.residual = state.residual[targets].clone()
        self._floor = state.resolution * state.variance[targets]

    def nats(self, rise: Tensor) -> Tensor:
        """Information lost at a rise of (..., m) in residual variance; shape (...)."""
        now = self.residual + self._floor
        constant = now <= 0
        ratio = rise.clamp_min(0) / now.masked_fill(constant, 1.0)
        return 0.5 * ratio.masked_fill(constant, 0.0).log1p().sum(-1)


class PrimalElimination:
    """Elimination by downdates of the precision matrix P and of the predictor W, in any order.

    Every drop reaches all channels at once. Where the order is known beforehand
    `OrderedElimination` gives the same answers for a fraction of the work.
    """

    def __init__(self, state: PairState, targets: Tensor) -> None:
        assert state.precision is not None
        self._block = state.precision.shape[0] // state.channels
        self._precision = state.precision.clone()
        self._weights = state.weights.index_select(1, targets.to(state.weights.device))
        self._losses = _Losses(state, targets)
        self._dropped = torch.zeros(state.channels, dtype=torch.bool)

    def loss(self, channel: int) -> float:
        return float(self._losses.nats(self._solve(channel)[1].square().sum(0)))

    def samples(self, channel: int) -> Tensor:
        """A single one; for a test of significance see `folds`."""
        return torch.tensor([self.loss(channel)], dtype=torch.float64)

    def losses(self) -> Tensor:
        channels = len(self._dropped)
        blocks = diagonal_blocks(self._precision, channels)
        eye = torch.eye(self._block, dtype=blocks.dtype, device=blocks.device)
        blocks = torch.where(self._dropped.to(eye.device)[:, None, None], eye, blocks)
        return self._losses.nats(explained(blocks, self._weights.view(channels, self._block, -1)))

    def drop(self, channel: int) -> None:
        half, projected = self._solve(channel)
        self._losses.residual += projected.square().sum(0)
        self._dropped[channel] = True
        cross = self._precision[:, self._rows(channel)]
        side = torch.linalg.solve_triangular(half, cross.mT, upper=False)  # (b, d)
        self._precision.addmm_(side.mT, side, alpha=-1)
        self._weights.addmm_(side.mT, projected, alpha=-1)

    def settle(self, channel: int) -> None:
        """Nothing to do: its rows are still read."""

    def _rows(self, channel: int) -> slice:
        return slice(channel * self._block, (channel + 1) * self._block)

    def _solve(self, channel: int) -> tuple[Tensor, Tensor]:
        """Cholesky factor C of the channel's block of P, and C^-1 W_F."""
        rows = self._rows(channel)
        half = _block_factor(self._precision[rows, rows])
        return half, torch.linalg.solve_triangular(half, self._weights[rows], upper=False)


class DualElimination:
    """The same questions answered from the rows and the (n, n) kernel inverse."""

    def __init__(self, state: PairState, targets: Tensor) -> None:
        assert state.rows is not None
        assert state.kernel is not None
        self._x = state.rows.view(state.rows.shape[0], state.channels, -1)
        self._kernel = state.kernel.clone()
        self._dropped: set[int] = set()
        self._penalty = state.penalty
        assert state.dual is not None
        self._dual = state.dual[:, targets].clone()  # u = K^-1 y, and W_F = x_F' u
        self._losses = _Losses(state, targets)
        # x' K^-1 x is near 1 and exact to about this much, since K is at least n * ridge
        largest = float(self._x.square().sum(0).max()) if self._x.numel() else 0.0
        self._error = EPSILON * largest / (state.rows.shape[0] * state.penalty)

    def loss(self, channel: int) -> float:
        return float(self._losses.nats(self._solve(channel)[2].square().sum(0)))

    def samples(self, channel: int) -> Tensor:
        """A single one; for a test of significance see `folds`."""
        return torch.tensor([self.loss(channel)], dtype=torch.float64)

    def losses(self) -> Tensor:
        losses = [0.0 if c in self._dropped else self.loss(c) for c in range(self._x.shape[1])]
        return torch.tensor(losses, dtype=torch.float64)

    def drop(self, channel: int) -> None:
        half, spread, projected = self._solve(channel)
        self._losses.residual += projected.square().sum(0)
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
