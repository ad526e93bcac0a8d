"""Information between a layer and the next in closed form, and what each channel adds to it.

Departs from arXiv:2411.00147v1, whose predictor is an MLP: a pre-activation is linear in the
activations that feed it, so the least-squares predictor is the natural one, and dropping a
channel from it has a closed form (the block form of optimal brain surgeon). In a deterministic
network information is infinite, so it is measured at a finite resolution tau, a share of each
target's variance (Goldfeld et al. 2019, arXiv:1810.05728v4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mipp.errors import SingularCovarianceError
from mipp.information.moments import Moments

NUMBERS: Mapping[str, Callable[[Any], Any]] = {
    "channels": int,
    "resolution": float,
    "penalty": float,
}  # fields of a state that are no tensors
PANEL = 256  # features whose downdates are collected before they are applied


@dataclass(frozen=True)
class PairState:
    """What `prepare` pays for once per pair; d = channels * block features, m targets.

    Primal states hold the precision (d, d); dual states, for fewer rows than features, hold
    the rows (n, d) and the inverse kernel (n, n) and never form anything of shape (d, d).
    """

    channels: int
    resolution: float
    weights: Tensor  # (d, m) least-squares predictor of the targets
    residual: Tensor  # (m,) variance of each target that x leaves
    variance: Tensor  # (m,)
    alone: Tensor  # (channels, m) variance that each channel explains alone
    precision: Tensor | None = None  # (d, d)
    rows: Tensor | None = None  # (n, d), centred
    kernel: Tensor | None = None  # (n, n) inverse of rows rows' + n * ridge
    dual: Tensor | None = None  # (n, m) kernel @ targets: weights = rows' dual
    penalty: float = 0.0  # the ridge added to the covariance's diagonal

    def single(self, targets: Tensor) -> Tensor:
        """Information of each channel alone with the given target rows; nats, (channels,).

        Parameters
        ----------
        targets : indices of target rows, int64.
        """
        variance = self.variance[targets]
        floor = self.resolution * variance
        left = (variance - self.alone[:, targets]).clamp_min(0)
        return 0.5 * _log_ratio(variance + floor, left + floor).sum(1)

    def joint(self, targets: Tensor) -> float:
        """Information of all channels with the given target rows, in nats."""
        variance = self.variance[targets]
        floor = self.resolution * variance
        return 0.5 * float(_log_ratio(variance + floor, self.residual[targets] + floor).sum())

    def eliminate(
        self, targets: Tensor, order: Sequence[int] | None = None
    ) -> PrimalElimination | DualElimination:
        """Backward elimination of the pair's channels, all present at first.

        Parameters
        ----------
        targets : indices of the target rows that count, int64.
        order : the channels in the order in which they will be decided, where that is known;
            it makes each step cheaper and changes no answer beyond rounding.
        """
        if self.precision is None:
            return DualElimination(self, targets)
        return PrimalElimination(self, targets, order)

    def tensors(self) -> dict[str, Tensor]:
        """Everything in the state as named tensors, for a file."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        numbers = {n: torch.tensor(fields[n], dtype=torch.float64) for n in NUMBERS}
        return {n: v for n, v in {**fields, **numbers}.items() if v is not None}


def from_tensors(tensors: Mapping[str, Tensor]) -> PairState:
    """The state whose `tensors` these are."""
    others: dict[str, Any] = {n: t for n, t in tensors.items() if n not in NUMBERS}
    return PairState(**others, **{n: kind(tensors[n]) for n, kind in NUMBERS.items()})


def prepare(moments: Moments, channels: int, *, ridge: float, resolution: float) -> PairState:
    """State of one pair from its moments; costs O(d^3) whatever the number of rows.

    Parameters
    ----------
    channels : d = channels * block; features of one channel are adjacent.
    ridge : added to the covariance's diagonal, as a share of the mean variance.
    resolution : tau, the noise floor as a share of each target's variance.

    Raises
    ------
    SingularCovarianceError : the covariance is not positive definite in spite of the ridge.
    """
    covariance, cross = moments.xx / moments.n, moments.xy / moments.n
    variance = moments.yy / moments.n
    penalty = _penalty(covariance.diagonal(), ridge)
    covariance.diagonal().add_(penalty)
    precision = torch.cholesky_inverse(_factor(covariance, ridge, moments.n))
    weights = precision @ cross
    residual = (variance - (cross * weights).sum(0)).clamp_min(0)
    blocks = _diagonal_blocks(covariance, channels)
    alone = _explained(blocks, cross.view(channels, -1, cross.shape[1]))
    return PairState(channels, resolution, weights, residual, variance, alone, precision)


def prepare_dual(
    x: Tensor, y: Tensor, channels: int, *, ridge: float, resolution: float
) -> PairState:
    """The state `prepare` gives, from the rows themselves; costs O(n^2 d), for n < d.

    Parameters
    ----------
    x, y : rows (n, d) and (n, m); float64 is used whatever they are.
    """
    x, y = x.flatten(1).double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    n = x.shape[0]
    diagonal = (x * x).mean(0)
    penalty = _penalty(diagonal, ridge)
    gram = x @ x.T
    gram.diagonal().add_(n * penalty)
    kernel = torch.cholesky_inverse(_factor(gram, ridge, n))
    dual = kernel @ y
    residual = penalty * (y * dual).sum(0)
    by_channel = x.view(n, channels, -1).permute(1, 2, 0)  # (channels, block, n)
    blocks = by_channel @ by_channel.mT / n
    blocks.diagonal(dim1=1, dim2=2).add_(penalty)
    alone = _explained(blocks, by_channel @ y / n)
    variance = (y * y).mean(0)
    return PairState(
        channels,
        resolution,
        x.T @ dual,
        residual,
        variance,
        alone,
        rows=x,
        kernel=kernel,
        dual=dual,
        penalty=penalty,
    )


def _penalty(diagonal: Tensor, ridge: float) -> float:
    """Absolute ridge; a layer whose features are all constant keeps a unit scale."""
    return ridge * (float(diagonal.mean()) or 1.0)


def _factor(matrix: Tensor, ridge: float, rows: int) -> Tensor:
    """Lower Cholesky factor of a covariance or kernel matrix."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise SingularCovarianceError(
            f"covariance from {rows} rows is not positive definite: its factorisation stops at "
            f"pivot {int(failed)} of {matrix.shape[0]}.\nExpected a ridge that makes it so, got "
            f"estimate.ridge={ridge:g}; raise estimate.ridge or extract.rows."
        )
    return factor  # type: ignore[no-any-return]


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


def _diagonal_blocks(matrix: Tensor, channels: int) -> Tensor:
    """The (block, block) matrices on the diagonal, shape (channels, block, block)."""
    block = matrix.shape[0] // channels
    grid = matrix.view(channels, block, channels, block)
    return grid.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _explained(blocks: Tensor, crosses: Tensor) -> Tensor:
    """diag(C' A^-1 C) for each block A (c, b, b) and C (c, b, m); shape (c, m)."""
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(blocks), crosses, upper=False)
    rises: Tensor = half.square().sum(1)
    return rises


def _log_ratio(above: Tensor, below: Tensor) -> Tensor:
    """log(above / below), 0 where a target is constant."""
    constant = above <= 0
    return torch.where(constant, 0.0, (above / below.masked_fill(constant, 1.0)).log())


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

    def losses(self) -> Tensor:
        self._flush(self._decided * self._block)
        blocks = _diagonal_blocks(self._precision, len(self._place))
        places = torch.tensor([self._place[c] for c in range(len(self._place))])
        eye = torch.eye(self._block, dtype=blocks.dtype, device=blocks.device)
        blocks = torch.where(self._dropped.to(eye.device)[:, None, None], eye, blocks[places])
        crosses = self._weights.view(len(places), self._block, -1)[places]
        return self._losses.nats(_explained(blocks, crosses))

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
