"""The least-squares map of one layer onto what its outputs may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mipp.information import moments
from mipp.information.moments import Moments
from mipp.layers import LinearMap, Statistics

PART = 2048  # rows
JUDGED = 2  # parts, about, whose errors tell whether a map is better than the one there was
NO_INVERSE = (
    "its weights were left as they are: the covariance of its inputs has no inverse, since they "
    "differ in scale too much or are no finite numbers"
)
SOLUTIONS = 3  # where outputs have intervals; the error of later ones falls by little
RELAXED = 0.8  # of a step on top of it, of less than one that keeps it from diverging


@dataclass(frozen=True)
class LayerFit:
    """Mean squared error of one layer, as a share of its targets' variance.

    Parameters
    ----------
    left : why its weights are what they were; empty where they were fitted.
    """

    layer: str
    error_before: float
    error_after: float
    left: str = ""


class Rows(NamedTuple):
    """Inputs x (n, ...) of a layer, what it should put out (n, m), and what would do as well.

    `low` and `high` are the ends of an interval around each wanted output; None where only what
    is wanted will do.
    """

    x: Tensor
    wanted: Tensor
    low: Tensor | None = None
    high: Tensor | None = None

    def parts(self) -> Iterator[Rows]:
        """The same rows, few enough at a time for wider copies of them; never in half precision."""
        wide = [side.float() if side is not None and side.itemsize < 4 else side for side in self]
        split = [None if side is None else torch.split(side, PART) for side in wide]
        for place in range(-(-len(self.x) // PART)):
            yield Rows(*(None if side is None else side[place] for side in split))  # type: ignore[arg-type]

    def beside(self, rest: Tensor) -> Rows:
        """The same rows for a map to whose outputs the rest is added."""
        ends = (None if end is None else end - rest for end in (self.low, self.high))
        return Rows(self.x, self.wanted - rest, *ends)

    def nearest(self, outputs: Tensor) -> Tensor:
        """The outputs that would do, next to these."""
        if self.low is None or self.high is None:
            return self.wanted
        return torch.minimum(torch.maximum(outputs, self.low), self.high)


@dataclass(frozen=True)
class _Map:
    weights: Tensor  # (d, m)
    offset: Tensor  # (m,)

    def outputs(self, x: Tensor) -> Tensor:
        """What the layer puts out for inputs (n, d), in their precision."""
        return torch.addmm(self.offset.to(x.dtype), x, self.weights.to(x.dtype))

    def plus(self, other: _Map, share: float = 1.0) -> _Map:
        """The map of the sum of both outputs, of the other's a share."""
        return _Map(self.weights + share * other.weights, self.offset + share * other.offset)


class Fitted(Protocol):
    """What a map is read from and written to: a layer, or what of one is linear."""

    @property
    def map(self) -> LinearMap | None:
        """The map that there is."""

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        """Write another; see `mipp.layers.Layer.set_map`."""


def fit_layer(
    name: str,
    layer: Fitted,
    norm: Statistics | None,
    rows: Sequence[Rows],
    *,
    ridge: float,
    solutions: int = SOLUTIONS,
) -> LayerFit:
    """Solve for a layer's weights and offset and write them into it.

    Where more than what is wanted will do, the map is solved again for the outputs that are next
    to its own, a few times; a map that errs more than the one there was is not taken.

    Parameters
    ----------
    norm : of the batch-norm that follows, None without one; takes the offset where the layer
        has no bias.
    rows : the layer's inputs and what it should put out, in parts.
    ridge : pull toward the weights it has, as a share of the inputs' mean variance.
    solutions : where more will do than what is wanted, at least one.

    Source: alternating least squares for rectified outputs, Zhang et al. (arXiv:1505.06798v2,
    section 3.2); an interval replaces their relaxed auxiliary variable.
    """
    linear = layer.map
    assert linear is not None
    rows = [part for whole in rows for part in whole.parts()]
    old = linear.weight.flatten(1).T.double()  # (d, m)
    had = linear.bias.double() if linear.bias is not None else old.new_zeros(old.shape[1])
    free_offset = linear.bias is not None or norm is not None
    sums = moments.stream(((part.x, part.wanted) for part in rows), "rows")
    try:
        system = _System(sums, old, ridge, free_offset, linear.parts)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        whole = _Map(old, had)
        return leave_layer(
            name, rows, [whole.outputs(part.x.flatten(1)) for part in rows], NO_INVERSE
        )
    found = system.solve(sums.xy, sums.y_mean)
    if any(part.low is not None for part in rows):
        found = _towards_intervals(system, found, rows, sums, solutions - 1)
    variance = float(sums.yy.sum() / sums.n) or 1e-300
    judged = rows[:: -(-len(rows) // JUDGED)]
    before, after = (_error(judged, one) / variance for one in (_Map(old, had), found))
    if not after <= before:  # nor one that is no number
        return LayerFit(name, before, before)
    layer.set_map(found.weights.T, found.offset)
    if linear.bias is None and norm is not None:
        norm.mean.sub_(found.offset.to(norm.mean.dtype))
    return LayerFit(name, before, after)


def leave_layer(name: str, rows: Sequence[Rows], outputs: Sequence[Tensor], why: str) -> LayerFit:
    """What a layer errs that stays as it is.

    Parameters
    ----------
    outputs : of the layer, (n, m), for each of the rows' parts.
    """
    error = sum(_distance(part, made) for part, made in zip(rows, outputs, strict=True))
    wanted = torch.cat([part.wanted for part in rows]).double()
    variance = float((wanted - wanted.mean(0)).square().sum()) or 1e-300
    return LayerFit(name, error / variance, error / variance, why)


class _System:
    """The normal equations of one layer, factorised once; those of each part of a map apart."""

    def __init__(
        self, sums: Moments, old: Tensor, ridge: float, free_offset: bool, parts: int = 1
    ) -> None:
        self._n, self._mean, self._free, self._parts = sums.n, sums.x_mean, free_offset, parts
        xx = sums.xx / sums.n
        if not free_offset:  # no place for an offset: fit through the origin
            xx = xx + torch.outer(sums.x_mean, sums.x_mean)
        penalty = ridge * (float(xx.diagonal().mean()) or 1.0)
        xx.diagonal().add_(penalty)
        self._factor = self._coarse = torch.linalg.cholesky(_diagonal(xx, parts))
        self._pull = penalty * old

    def solve(self, xy: Tensor, y_mean: Tensor) -> _Map:
        """The map for targets of these centred cross sums (d, m) and means (m,)."""
        return self._map(self._cross(xy, y_mean) + self._pull, y_mean, self._factor)

    def change(self, xy: Tensor, y_mean: Tensor, precision: torch.dtype) -> _Map:
        """What a change of the targets by such sums and means adds to the map."""
        if self._coarse.dtype != precision:
            self._coarse = self._factor.to(precision)
        return self._map(self._cross(xy, y_mean).to(precision), y_mean, self._coarse)

    def _cross(self, xy: Tensor, y_mean: Tensor) -> Tensor:
        xy = xy / self._n
        return xy if self._free else xy.addr_(self._mean, y_mean)

    def _map(self, right: Tensor, y_mean: Tensor, factor: Tensor) -> _Map:
        solved = torch.cholesky_solve(_diagonal(right, self._parts), factor).double()
        weights = solved[0]
        if self._parts > 1:
            weights = torch.block_diag(*solved)  # type: ignore[no-untyped-call]
        offset = y_mean - self._mean @ weights
        return _Map(weights, offset if self._free else torch.zeros_like(offset))


def _diagonal(matrix: Tensor, parts: int) -> Tensor:
    """So many blocks along a matrix's diagonal, (parts, rows of each, columns of each)."""
    rows, columns = (size // parts for size in matrix.shape)
    return matrix.view(parts, rows, parts, columns).diagonal(dim1=0, dim2=2).movedim(-1, 0)


def _towards_intervals(
    system: _System, found: _Map, rows: Sequence[Rows], sums: Moments, steps: int
) -> _Map:
    """Maps solved again and again for the outputs that are next to those of the one before.

    Each is a step of gradient descent on the squared distance from what would do, in the metric
    of the normal equations; all but the last are over-relaxed, which halves their number. A step
    has the precision of the rows: what it leaves, the next one sees.
    """
    first = found
    for left in reversed(range(steps)):
        last, found = found, first.plus(system.change(*_against(rows, found, sums)))
        if left:
            found = found.plus(found.plus(last, -1.0), RELAXED)
    return found


def _against(
    rows: Sequence[Rows], found: _Map, sums: Moments
) -> tuple[Tensor, Tensor, torch.dtype]:
    """How far the outputs next to a map's are from what is wanted, and in which precision.

    Centred cross sums with the inputs (d, m), and means (m,).
    """
    xy, total = torch.zeros_like(sums.xy), torch.zeros_like(sums.y_mean)
    for part in rows:
        x = part.x.flatten(1)
        apart = part.nearest(found.outputs(x)) - part.wanted
        xy += x.T @ apart
        total += apart.sum(0, dtype=torch.float64)
    return xy.addr_(sums.x_mean, total, alpha=-1), total / sums.n, rows[0].x.dtype


def _error(rows: Sequence[Rows], found: _Map) -> float:
    """Mean over rows of the squared distance of a map's outputs from what would do."""
    error = 0.0
    for part in rows:
        error += _distance(part, found.outputs(part.x.flatten(1)))
    return error / sum(len(part.x) for part in rows)


def _distance(rows: Rows, outputs: Tensor) -> float:
    """Sum of the squared distances of outputs from those that would do."""
    apart = outputs - rows.nearest(outputs)
    return float(apart.square_().sum(dtype=torch.float64))
