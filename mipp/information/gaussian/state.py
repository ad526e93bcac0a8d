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

from mipp.errors import SingularCovarianceError, option
from mipp.information import moments
from mipp.information.gaussian.arrowhead import invert_covariance
from mipp.information.gaussian.blocks import Residuals, diagonal_blocks, explained
from mipp.information.gaussian.dual import DualElimination
from mipp.information.gaussian.inverse import invert
from mipp.information.gaussian.ordered import OrderedElimination
from mipp.information.gaussian.primal import PrimalElimination
from mipp.information.moments import Moments

FEW = 8  # so many times fewer rows than features, before the dual form pays
NUMBERS: Mapping[str, Callable[[Any], Any]] = {
    "channels": int,
    "resolution": float,
    "penalty": float,
}  # fields of a state that are no tensors


@dataclass(frozen=True)
class PairState:
    """What `prepare` pays for once per pair; d = channels * block features, m targets.

    Primal states hold the precision (d, d); dual states, for few rows and many features, hold
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

    def eliminate(self, targets: Tensor) -> PrimalElimination | DualElimination:
        """Backward elimination of the pair's channels, all present at first, in any order.

        Parameters
        ----------
        targets : indices of the target rows that count, int64.
        """
        if self.precision is None:
            return self._dual_elimination(targets)
        weights, residuals = self._weights_of(targets), self._residuals_of(targets)
        return PrimalElimination(self.precision, weights, residuals, self.channels)

    def eliminate_in_order(
        self, targets: Tensor, order: Sequence[int], watched: int = 0
    ) -> OrderedElimination | DualElimination:
        """Backward elimination in an order; each step is cheaper, no answer other.

        Parameters
        ----------
        targets : as above.
        order : the channels as they will be decided. Only the next of them can be asked about,
            and the last `watched` of them always.
        """
        if self.precision is None:
            return self._dual_elimination(targets)
        weights, residuals = self._weights_of(targets), self._residuals_of(targets)
        return OrderedElimination(self.precision, weights, residuals, order, watched)

    def _dual_elimination(self, targets: Tensor) -> DualElimination:
        assert self.rows is not None
        assert self.kernel is not None
        assert self.dual is not None
        rows = self.rows.view(self.rows.shape[0], self.channels, -1)
        kernel, dual = self.kernel.clone(), self.dual[:, targets].clone()
        return DualElimination(rows, kernel, dual, self.penalty, self._residuals_of(targets))

    def _weights_of(self, targets: Tensor) -> Tensor:
        return self.weights.index_select(1, targets.to(self.weights.device))

    def _residuals_of(self, targets: Tensor) -> Residuals:
        targets = targets.to(self.residual.device)
        return Residuals(self.residual[targets].clone(), self.resolution * self.variance[targets])

    def tensors(self) -> dict[str, Tensor]:
        """Everything in the state as named tensors, for a file."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        numbers = {n: torch.tensor(fields[n], dtype=torch.float64) for n in NUMBERS}
        return {n: v for n, v in {**fields, **numbers}.items() if v is not None}


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


def prefers_dual(rows: int, features: int) -> bool:
    """Whether the dual form is the cheaper one: its steps read all of an (n, n) matrix."""
    return FEW * rows < features


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
    _require_inverse(invert(gram), gram, ridge, n)
    kernel = gram  # inverted in its place
    dual = kernel @ y
    residual = penalty * (y * dual).sum(0)
    by_channel = x.view(n, channels, -1).permute(1, 2, 0)  # (channels, block, n)
    blocks = by_channel @ by_channel.mT / n
    blocks.diagonal(dim1=1, dim2=2).add_(penalty)
    alone = explained(blocks, by_channel @ y / n)
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


def _require_inverse(failed: int, matrix: Tensor, ridge: float, rows: int) -> None:
    """Refuse a covariance or kernel matrix that has none."""
    if failed:
        raise SingularCovarianceError(
            f"covariance from {rows} rows is not positive definite: its factorisation stops at "
            f"pivot {failed} of {matrix.shape[0]}.\nExpected a ridge that makes it so, got "
            f"{option('Gaussian.ridge')}={ridge:g}; raise {option('Gaussian.ridge')} or "
            f"{option('rows')}."
        )


def _log_ratio(above: Tensor, below: Tensor) -> Tensor:
    """log(above / below), 0 where a target is constant."""
    constant = above <= 0
    return torch.where(constant, 0.0, (above / below.masked_fill(constant, 1.0)).log())
