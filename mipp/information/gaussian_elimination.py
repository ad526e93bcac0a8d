"""Backward elimination in closed form: downdates of the predictor as channels are taken away.

The block form of optimal brain surgeon applied to information: exact, and the cost of a step
does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mipp.errors import SingularCovarianceError

if TYPE_CHECKING:
    from mipp.information.gaussian import PairState

PANEL = 256  # features whose downdates are collected before they are applied


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


def _block_factor(block: Tensor) -> Tensor:
    """Lower Cholesky factor of one channel's block while channels are taken away."""
    factor, failed = torch.linalg.cholesky_ex(block)
    if int(failed):
        raise SingularCovarianceError(
            "a channel's information cannot be told: rounding has used up its block of the "
            f"precision matrix.\nExpected a positive definite {tuple(block.shape)} block, got one "
            f"whose factorisation stops at pivot {int(failed)}; raise estimate.ridge."
        )
    return factor  # type: ignore[no-any-return]


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
    """Elimination by downdates of the precision matrix P and of the predictor W.

    Channels lie in the order in which they will be decided. A decided channel is never asked
    about again, and updates of the rest never read its rows: the work is on a trailing
    sub-matrix that shrinks, as in a block Cholesky factorisation whose kept steps are skipped.
    Downdates of a panel of channels are collected and applied to the rest in one product.
    """

    def __init__(self, state: PairState, targets: Tensor, order: Sequence[int] | None) -> None:
        assert state.precision is not None
        self._block = state.precision.shape[0] // state.channels
        order = range(state.channels) if order is None else order
        self._place = {channel: place for place, channel in enumerate(order)}
        features = torch.tensor(list(order), device=state.precision.device)[:, None] * self._block
        features = (features + torch.arange(self._block, device=features.device)).flatten()
        self._precision = state.precision[features].index_select(1, features)
        self._weights = state.weights[features].index_select(1, targets.to(features.device))
        self._losses = _Losses(state, targets)
        self._dropped = torch.zeros(state.channels, dtype=torch.bool)
        self._decided = 0  # places before it are decided
        self._panel = 0  # first feature that the pending downdates reach
        self._limit = max(1, PANEL // self._block) * self._block
        self._sides = self._precision.new_empty(len(features), self._limit + self._block)
        self._projections = self._weights.new_empty(self._limit + self._block, len(targets))
        self._pending = 0  # features dropped in this panel
        self._solved: tuple[int, Tensor, Tensor] | None = None  # by `loss`, for `drop`

    def loss(self, channel: int) -> float:
        self._solved = (channel, *self._solve(channel))
        return float(self._losses.nats(self._solved[2].square().sum(0)))

    def samples(self, channel: int) -> Tensor:
        """A single one; for a test of significance see `folds`."""
        return torch.tensor([self.loss(channel)], dtype=torch.float64)

    def losses(self) -> Tensor:
        self._flush(self._decided * self._block)
        blocks = diagonal_blocks(self._precision, len(self._place))
        places = torch.tensor([self._place[c] for c in range(len(self._place))])
        eye = torch.eye(self._block, dtype=blocks.dtype, device=blocks.device)
        blocks = torch.where(self._dropped.to(eye.device)[:, None, None], eye, blocks[places])
        crosses = self._weights.view(len(places), self._block, -1)[places]
        return self._losses.nats(explained(blocks, crosses))

    def drop(self, channel: int) -> None:
        if self._solved is None or self._solved[0] != channel:
            self._solved = (channel, *self._solve(channel))
        _, half, projected = self._solved
        self._solved = None
        self._losses.residual += projected.square().sum(0)
        self._dropped[channel] = True
        rows, rest = self._rows(channel), slice(self._panel, None)
        pending, more = slice(0, self._pending), slice(self._pending, self._pending + self._block)
        cross = self._precision[rest, rows] - (
            self._sides[rest, pending] @ self._sides[rows, pending].mT
        )
        self._sides[rest, more] = torch.linalg.solve_triangular(half, cross.mT, upper=False).mT
        self._projections[more] = projected
        self._pending += self._block
        self.settle(channel)

    def settle(self, channel: int) -> None:
        if self._place[channel] == self._decided:
            self._decided += 1
        if self._decided * self._block - self._panel >= self._limit or (
            self._pending >= self._limit
        ):
            self._flush(self._decided * self._block)

    def _flush(self, start: int) -> None:
        """Apply the pending downdates to all features from `start` on."""
        self._solved = None
        rest, pending = slice(start, None), slice(0, self._pending)
        if self._pending:
            sides = self._sides[rest, pending]
            self._precision[rest, rest].addmm_(sides, sides.mT, alpha=-1)
            self._weights[rest].addmm_(sides, self._projections[pending], alpha=-1)
        self._panel, self._pending = start, 0

    def _rows(self, channel: int) -> slice:
        place = self._place[channel]
        return slice(place * self._block, (place + 1) * self._block)

    def _solve(self, channel: int) -> tuple[Tensor, Tensor]:
        """Cholesky factor C of the channel's block of P, and C^-1 W_F."""
        rows, pending = self._rows(channel), slice(0, self._pending)
        sides = self._sides[rows, pending]
        half = _block_factor(self._precision[rows, rows] - sides @ sides.mT)
        weights = self._weights[rows] - sides @ self._projections[pending]
        return half, torch.linalg.solve_triangular(half, weights, upper=False)


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
        half = _block_factor(eye - x.mT @ spread)
        projected = torch.linalg.solve_triangular(half, x.mT @ self._dual, upper=False)
        return half, spread, projected * self._penalty**0.5
