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
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mipp.errors import SingularCovarianceError, option
from mipp.information import moments
from mipp.information.gaussian.arrowhead import invert_covariance
from mipp.information.gaussian.blocks import DOUBT, Residuals, diagonal_blocks, explained
from mipp.information.gaussian.cost import prefers_dual
from mipp.information.gaussian.drops import Drops
from mipp.information.gaussian.inverse import factorise
from mipp.information.gaussian.ordered import OrderedElimination
from mipp.information.gaussian.precision import LowRank, Precision, Whole
from mipp.information.gaussian.primal import PrimalElimination
from mipp.information.moments import Moments

EPSILON = torch.finfo(torch.float64).eps
WHOLE = 16_384  # features whose precision matrix is 2 GB
NUMBERS: Mapping[str, Callable[[Any], Any]] = {
    "channels": int,
    "resolution": float,
    "penalty": float,
    "noise": float,
}  # fields of a state that are no tensors


@dataclass(frozen=True)
class PairState:
    """What `prepare` pays for once per pair; d = channels * block features, m targets.

    Primal states hold the precision (d, d); dual states, for few rows and many features, hold
    what it is made of and never form anything of shape (d, d).
    """

    channels: int
    resolution: float
    weights: Tensor  # (d, m) least-squares predictor of the targets
    residual: Tensor  # (m,) variance of each target that x leaves
    variance: Tensor  # (m,)
    alone: Tensor  # (channels, m) variance that each channel explains alone
    precision: Tensor | None = None  # (d, d)
    spread: Tensor | None = None  # (d, n) of `LowRank`
    penalty: float = 0.0  # the ridge added to the covariance's diagonal
    noise: float = 0.0  # of `LowRank`
    drops: Drops | None = None  # of `warm_started`

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

    def warm_started(self) -> PairState:
        """The same, for one elimination after the other: each makes use of those before."""
        return replace(self, drops=self.new_drops())

    def new_drops(self) -> Drops:
        """For the first of several eliminations; of a whole precision matrix, the size counts."""
        return Drops(self._precision(), self.channels)

    def eliminate(self, targets: Tensor) -> PrimalElimination:
        """Backward elimination of the pair's channels, all present at first, in any order.

        Parameters
        ----------
        targets : indices of the target rows that count, int64.
        """
        weights, residuals = self._weights_of(targets), self._residuals_of(targets)
        return PrimalElimination(self._precision(), weights, residuals, self.channels, self.drops)

    def eliminate_in_order(
        self, targets: Tensor, order: Sequence[int], watched: int = 0
    ) -> OrderedElimination:
        """Backward elimination in an order; each step is cheaper, no answer other.

        Parameters
        ----------
        targets : as above.
        order : the channels as they will be decided. Only the next of them can be asked about,
            and the last `watched` of them always.
        """
        weights, residuals = self._weights_of(targets), self._residuals_of(targets)
        return OrderedElimination(self._precision(), weights, residuals, order, watched)

    def _precision(self) -> Precision:
        if self.precision is not None:
            return Whole(self.precision)
        assert self.spread is not None
        return LowRank(self.spread, self.penalty, self.noise)

    def _weights_of(self, targets: Tensor) -> Tensor:
        return self.weights.index_select(1, targets.to(self.weights.device))

    def _residuals_of(self, targets: Tensor) -> Residuals:
        targets = targets.to(self.residual.device)
        return Residuals(self.residual[targets].clone(), self.resolution * self.variance[targets])

    def tensors(self) -> dict[str, Tensor]:
        """Everything in the state as named tensors, for a file."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        numbers = {n: torch.tensor(fields[n], dtype=torch.float64, device="cpu") for n in NUMBERS}
        return {n: v for n, v in {**fields, **numbers}.items() if isinstance(v, Tensor)}


def from_tensors(tensors: Mapping[str, Tensor]) -> PairState:
    """The state whose `tensors` these are."""
    others: dict[str, Any] = {n: t for n, t in tensors.items() if n not in NUMBERS}
    return PairState(**others, **{n: kind(tensors[n]) for n, kind in NUMBERS.items()})


def prepare(
    moments: Moments, channels: int, *, ridge: float, resolution: float, overwrite: bool = False
) -> PairState:
    """State of one pair from its moments; costs O(d^3) whatever the number of rows.

    Parameters
    ----------
    channels : d = channels * block; features of one channel are adjacent.
    ridge : added to the covariance's diagonal, as a share of the mean variance.
    resolution : tau, the noise floor as a share of each target's variance.
    overwrite : let `moments.xx` become the state's precision matrix, which spares a copy.

    Raises
    ------
    SingularCovarianceError : the covariance is not positive definite in spite of the ridge.
    """
    covariance = moments.xx.div_(moments.n) if overwrite else moments.xx / moments.n
    cross = moments.xy / moments.n
    variance = moments.yy / moments.n
    penalty = _penalty(covariance.diagonal(), ridge)
    covariance.diagonal().add_(penalty)
    blocks = diagonal_blocks(covariance, channels).clone()
    failed = invert_covariance(covariance, moments.x_mean, moments.met)
    _require_inverse(failed, covariance, ridge, moments.n)
    precision = covariance  # inverted in its place
    weights = precision @ cross
    residual = (variance - (cross * weights).sum(0)).clamp_min(0)
    alone = explained(blocks, cross.view(channels, -1, cross.shape[1]))
    return PairState(channels, resolution, weights, residual, variance, alone, precision)


def prepare_rows(
    x: Tensor, y: Tensor, channels: int, *, ridge: float, resolution: float
) -> PairState:
    """The state of rows in memory, in the form that is cheaper."""
    if prefers_dual(x.shape[0], x[0].numel()):
        return prepare_dual(x, y, channels, ridge=ridge, resolution=resolution)
    return prepare(moments.of_rows(x, y), channels, ridge=ridge, resolution=resolution)


def prepare_dual(
    x: Tensor, y: Tensor, channels: int, *, ridge: float, resolution: float
) -> PairState:
    """The state `prepare` gives, from the rows themselves; costs O(n^2 d), for n < d.

    Where one feature varies so much more than the others that rounding uses up its pivot of
    I - V'V, it is that of `prepare` indeed, unless there are too many features for it.

    Parameters
    ----------
    x, y : rows (n, d) and (n, m); float64 is used whatever they are.
    """
    x, y = x.flatten(1).double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    n = x.shape[0]
    diagonal = (x * x).mean(0)
    penalty = _penalty(diagonal, ridge)
    most = float(diagonal.max()) / penalty if len(diagonal) and penalty else 0.0
    noise = EPSILON * most  # of V'V, which is near 1: K is at least n * ridge
    if DOUBT * noise * (1 + most) > 1 and x.shape[1] <= WHOLE:  # no pivot is below 1 / (1 + most)
        return prepare(moments.of_rows(x, y), channels, ridge=ridge, resolution=resolution)
    by_channel = x.T.reshape(channels, -1, n)
    blocks = by_channel @ by_channel.mT / n
    blocks.diagonal(dim1=1, dim2=2).add_(penalty)
    alone = explained(blocks, by_channel @ y / n)
    kernel = x @ x.T
    kernel.diagonal().add_(n * penalty)
    _require_inverse(factorise(kernel), kernel, ridge, n)
    solved = torch.linalg.solve_triangular(kernel.mT, torch.cat([x, y], 1), upper=False)
    spread, targets = solved[:, : x.shape[1]].T.contiguous(), solved[:, x.shape[1] :]
    return PairState(
        channels,
        resolution,
        spread @ targets,
        penalty * targets.square().sum(0),
        (y * y).mean(0),
        alone,
        spread=spread,
        penalty=penalty,
        noise=noise,
    )


def _penalty(diagonal: Tensor, ridge: float) -> float:
    """Absolute ridge; a layer whose features are all constant keeps a unit scale."""
    return ridge * (float(diagonal.mean()) or 1.0)


def _require_inverse(failed: int, matrix: Tensor, ridge: float, rows: int) -> None:
    """Refuse a covariance or kernel matrix that has none."""
    if failed:
        raise SingularCovarianceError(
            f"covariance from {rows} rows is not positive definite: its factorisation stops at "
            f"pivot {failed} of {matrix.shape[0]}.\nExpected a ridge that makes it so, got "
            f"{option('Gaussian.ridge')}={ridge:g}; raise {option('Gaussian.ridge')} or "
            f"{option('Mipp.rows')}."
        )


def _log_ratio(above: Tensor, below: Tensor) -> Tensor:
    """log(above / below), 0 where a target is constant."""
    constant = above <= 0
    return torch.where(constant, 0.0, (above / below.masked_fill(constant, 1.0)).log())
