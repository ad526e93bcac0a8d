"""Backward elimination in closed form: downdates of the predictor as channels are taken away.

The block form of optimal brain surgeon applied to information: exact, and the cost of a step
does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mipp.information.panel import Panel, Solved, unclear

if TYPE_CHECKING:
    from mipp.information.gaussian import PairState

EPSILON = torch.finfo(torch.float64).eps
COMPACT = 8  # a share of 1/8 of dropped channels is worth a copy without them
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

    The channels that are asked about one by one are a panel; what its drops do to all others is
    computed once, when those are asked about. P itself is read and never copied. Where the order
    is known beforehand `OrderedElimination` gives the same answers for less.
    """

    def __init__(self, state: PairState, targets: Tensor) -> None:
        assert state.precision is not None
        self._precision = state.precision
        self._block = state.precision.shape[0] // state.channels
        self._channels = torch.arange(state.channels)  # those held, in order
        self._blocks = diagonal_blocks(state.precision, state.channels).clone()
        self._weights = state.weights.index_select(1, targets.to(state.weights.device))
        self._losses = _Losses(state, targets)
        self._present = torch.ones(state.channels, dtype=torch.bool)
        self._sides: list[Tensor] = []  # per panel that is done with, (held features, dropped)
        self._panel: Panel | None = None
        self._solved: tuple[int, Solved] | None = None  # the channel asked about last

    def loss(self, channel: int) -> float:
        return float(self._losses.nats(self._rise(self._solve(channel))))

    def samples(self, channel: int) -> Tensor:
        """A single one; for a test of significance see `folds`."""
        return torch.tensor([self.loss(channel)], dtype=torch.float64)

    def losses(self) -> Tensor:
        self._finish_panel()
        device = self._blocks.device
        eye = torch.eye(self._block, dtype=self._blocks.dtype, device=device)
        gone = ~self._present[self._channels].to(device)
        blocks = torch.where(gone[:, None, None], eye, self._blocks)
        weights = self._weights.view(len(blocks), self._block, self._weights.shape[1])
        answers = self._weights.new_zeros(len(self._present))
        answers[self._channels.to(device)] = self._losses.nats(explained(blocks, weights))
        return answers

    def consider(self, channels: Sequence[int]) -> None:
        self._finish_panel()
        rows, held = self._features(torch.tensor(channels)), self._places(channels)
        precision = self._precision[rows[:, None], rows]
        for sides in self._sides:
            here = sides[held]
            precision.addmm_(here, here.mT, alpha=-1)
        self._panel = Panel(channels, len(channels), precision.cpu(), self._weights[held].cpu())

    def drop(self, channel: int) -> None:
        solved = self._solve(channel)
        assert self._panel is not None
        self._losses.residual += self._rise(solved)
        self._panel.drop(channel, solved)
        self._present[channel] = False
        self._solved = None

    def settle(self, channel: int) -> None:
        """Nothing to do: its rows are still read."""

    def _features(self, channels: Tensor) -> Tensor:
        """Rows of these channels where each has its block, on the device."""
        rows = channels[:, None] * self._block + torch.arange(self._block)
        return rows.flatten().to(self._precision.device)

    def _places(self, channels: Sequence[int]) -> Tensor:
        """Rows of these channels among those held."""
        return self._features(torch.searchsorted(self._channels, torch.tensor(channels)))

    def _solve(self, channel: int) -> Solved:
        if self._solved is None or self._solved[0] != channel:
            if self._panel is None or not self._panel.holds(channel):
                self.consider([channel])
            assert self._panel is not None
            self._solved = channel, self._panel.solve(channel)
        return self._solved[1]

    def _rise(self, solved: Solved) -> Tensor:
        return torch.from_numpy(solved.rise).to(self._weights.device)

    def _finish_panel(self) -> None:
        """Bring the drops of the panel to all channels."""
        panel, self._panel, self._solved = self._panel, None, None
        if panel is None or not len(panel):
            return
        dropped, factor, projections = panel.dropped()
        factor, projections = (part.to(self._precision.device) for part in (factor, projections))
        rows, held = self._features(torch.tensor(dropped)), self._places(dropped)
        cross = self._precision[rows]
        if len(self._channels) < len(self._present):
            cross = cross.index_select(1, self._features(self._channels))
        for sides in self._sides:
            cross.addmm_(sides[held], sides.mT, alpha=-1)
        sides = torch.linalg.solve_triangular(factor, cross, upper=False).mT.contiguous()
        by_channel = sides.view(len(self._channels), self._block, sides.shape[1])
        self._blocks.baddbmm_(by_channel, by_channel.mT, alpha=-1)
        self._weights.addmm_(sides, projections, alpha=-1)
        self._sides.append(sides)
        self._forget_dropped()

    def _forget_dropped(self) -> None:
        """Leave the rows of dropped channels out, once they are worth a copy of the others."""
        stay = self._present[self._channels]
        if COMPACT * int((~stay).sum()) < len(stay):
            return
        rows = self._features(stay.nonzero().flatten())
        self._channels = self._channels[stay]
        self._blocks = self._blocks[stay.to(self._blocks.device)]
        self._weights = self._weights[rows]
        self._sides = [sides[rows] for sides in self._sides]


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

    def consider(self, channels: Sequence[int]) -> None:
        """Nothing to prepare."""

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
