"""First and second moments of (x, y), streamed chunk by chunk into float64 sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mipp.errors import ActivationError
from mipp.information.patches import PatchSums, mostly_border

Products = Literal["float64", "rows"]
STRIPS = 8
NARROW = 64  # columns under which a strip is not worth a product of its own
FAR = 100.0  # a squared mean, in mean variances: rounding takes 1e-5 of them then


@dataclass(frozen=True)
class Moments:
    """Count, means and centred sums of upstream features x (n, d) and targets y (n, m)."""

    n: int
    x_mean: Tensor  # (d,)
    y_mean: Tensor  # (m,)
    xx: Tensor  # (d, d) sum of (x - mean)(x - mean)'
    xy: Tensor  # (d, m)
    yy: Tensor  # (m,) sum of (y - mean)^2
    met: Tensor | None = None  # (taps, taps) whether two were other than zero in one row, if known

    def tensors(self) -> dict[str, Tensor]:
        """Everything in it as named tensors, for a file; of `xx` little more than a half."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found = {name: value for name, value in found.items() if value is not None}
        upper = [self.xx[strip, rest].flatten() for strip, rest in _strips(len(self.xx))]
        return {**found, "n": torch.tensor(self.n, device="cpu"), "xx": torch.cat(upper)}


def from_tensors(tensors: dict[str, Tensor]) -> Moments:
    """The moments whose `tensors` these are."""
    d = len(tensors["x_mean"])
    xx, start = tensors["xx"].new_empty(d, d), 0
    for strip, rest in _strips(d):
        part = xx[strip, rest]
        part.copy_(tensors["xx"][start : start + part.numel()].view(part.shape))
        start += part.numel()
    _mirror(xx)
    others = {name: value for name, value in tensors.items() if name not in ("n", "xx")}
    return Moments(int(tensors["n"]), xx=xx, **others)


class Scratch:
    """Memory of a product for the next one too: fresh memory costs more than the product.

    >>> Scratch().like(torch.zeros(2, 3), torch.float32).shape
    torch.Size([2, 3])
    """

    def __init__(self) -> None:
        self._held: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, matrix: Tensor, dtype: torch.dtype) -> Tensor:
        """Of a matrix's shape and device, filled with anything."""
        size, kind = matrix.numel(), (dtype, matrix.device)
        held = self._held.get(kind)
        if held is None or held.numel() < size:
            held = self._held[kind] = matrix.new_empty(size, dtype=dtype)
        return held[:size].view(matrix.shape)


class MomentSums:
    """Sums over chunks of rows, added up in place: no chunk costs more than its products.

    Rows are shifted by the first chunk's mean, so that a mean far from zero takes no digits.
    Patches that are mostly border are not, unless theirs is that far: it would fill their zeros.

    Parameters
    ----------
    products : precision of products and sums within a chunk; chunks add up in float64. "rows"
        takes that of the rows, but no less than float32: there a sum is off by about 1e-7 of its
        diagonal, for half of the time. Where hundreds of units can stand in for one another that
        decides which of them stay, but not how many.
    scratch : shared with other sums of the same thread.
    """

    def __init__(self, products: Products = "float64", scratch: Scratch | None = None) -> None:
        self._n, self._asked, self._scratch = 0, products, scratch or Scratch()
        self._products: _Products
        self._x_shift: Tensor | None

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add a chunk: x of shape (n, ...) is flattened to (n, d), y is (n, m)."""
        y = y.flatten(1)
        if not self._n:
            self._start(x, y)
        self._n += x.shape[0]
        x, y = x.to(self._kind), y.to(self._kind) - self._y_shift
        if self._x_shift is not None:
            x = x.flatten(1) - self._x_shift
        self._x_sum += x.sum(0).flatten()
        self._y_sum += y.sum(0)
        self._products.add(x, y)
        self._yy += y.square().sum(0)

    def _start(self, x: Tensor, y: Tensor) -> None:
        kind = torch.promote_types(x.dtype, torch.float32)  # halves are too coarse to add up
        self._kind = kind if self._asked == "rows" else torch.float64
        x_mean, self._y_shift = (side.mean(0, dtype=self._kind) for side in (x.flatten(1), y))
        d, m = len(x_mean), y.shape[1]
        wide: dict[str, Any] = {"dtype": torch.float64, "device": x.device}
        self._x_sum, self._y_sum = torch.zeros(d, **wide), torch.zeros(m, **wide)
        self._yy = torch.zeros(m, **wide)
        if mostly_border(x) and not _far_from_zero(x.flatten(1), x_mean):
            self._x_shift, self._products = None, PatchSums(x.shape[1], x.shape[2], m)
        else:
            self._x_shift, self._products = x_mean, _DenseSums(d, m, wide, self._scratch)

    def moments(self) -> Moments:
        """Moments of all chunks; the sums are handed over, nothing can be added any more.

        Raises
        ------
        ValueError : there was no chunk.
        ActivationError : squares of the rows are larger than their precision holds.
        """
        if not self._n:
            raise ValueError("moments of no rows: expected at least one chunk, got none")
        xx, xy, met = self._products.take()
        if not bool(torch.cat([xx.diagonal(), self._yy]).isfinite().all()):
            raise ActivationError(
                "activations are too large for their squares to be added up.\nExpected numbers "
                f"below {torch.finfo(self._kind).max ** 0.5:.1e}, whose squares {self._kind} "
                f"holds, got larger ones in {self._n} rows; bring weights or inputs to a usual "
                "scale, or prune in double precision: model.double(), inputs.double()."
            )
        n, dx, dy = self._n, self._x_sum / self._n, self._y_sum / self._n
        _mirror(xx.addr_(dx, dx, alpha=-n))
        return Moments(
            n,
            dx if self._x_shift is None else self._x_shift + dx,
            self._y_shift + dy,
            xx,
            xy.addr_(dx, dy, alpha=-n),
            self._yy.addcmul_(dy, dy, value=-n).clamp_min_(0),
            met,
        )


class _Products(Protocol):
    """Sums of products of chunks."""

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add a chunk of x (n, d) or (n, channels, taps) and y (n, m)."""

    def take(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """x'x (d, d), of which `_strips` are there, and x'y (d, m), float64; which taps met.

        The sums are handed over.
        """


class _DenseSums:
    """x'x, of which half is computed, and x'y."""

    def __init__(self, d: int, m: int, wide: dict[str, Any], scratch: Scratch) -> None:
        self._xx, self._xy = torch.zeros(d, d, **wide), torch.zeros(d, m, **wide)
        self._scratch = scratch

    def add(self, x: Tensor, y: Tensor) -> None:
        for strip, rest in _strips(x.shape[1]):
            self._add_product(self._xx[strip, rest], x[:, strip].T, x[:, rest])
        self._add_product(self._xy, x.T, y)

    def _add_product(self, total: Tensor, left: Tensor, right: Tensor) -> None:
        if left.dtype == total.dtype:
            total.addmm_(left, right)
            return
        total += torch.mm(left, right, out=self._scratch.like(total, left.dtype))

    def take(self) -> tuple[Tensor, Tensor, None]:
        return self._xx, self._xy, None


def _far_from_zero(x: Tensor, mean: Tensor) -> bool:
    """Whether products of these rows as they are would lose digits of some feature's variance."""
    return float(mean.square().max()) > FAR * float(x.var(0, correction=0).mean())


def of_rows(x: Tensor, y: Tensor) -> Moments:
    """Moments of one chunk: x of shape (n, ...) is flattened to (n, d), y is (n, m)."""
    return stream([(x, y)])


def stream(chunks: Iterable[tuple[Tensor, Tensor]], products: Products = "float64") -> Moments:
    """Moments of all chunks; `products` as for `MomentSums`.

    Raises
    ------
    ValueError : there is no chunk.
    """
    sums = MomentSums(products)
    for x, y in chunks:
        sums.add(x, y)
    return sums.moments()


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of both sets of rows together; associative up to rounding (Chan et al. 1979)."""
    n = a.n + b.n
    share, cross = b.n / n, a.n * b.n / n
    dx, dy = b.x_mean - a.x_mean, b.y_mean - a.y_mean
    return Moments(
        n,
        a.x_mean + share * dx,
        a.y_mean + share * dy,
        torch.addr(a.xx + b.xx, dx, dx, alpha=cross),
        torch.addr(a.xy + b.xy, dx, dy, alpha=cross),
        a.yy + b.yy + cross * dy * dy,
        None if a.met is None or b.met is None else a.met | b.met,
    )


def _mirror(xx: Tensor) -> None:
    """Complete a symmetric matrix of which the strips are there."""
    for strip, _ in _strips(len(xx)):
        xx[strip.stop :, strip] = xx[strip, strip.stop :].T


def _strips(d: int) -> list[tuple[slice, slice]]:
    """Strips of rows of a symmetric (d, d) matrix, each with the columns from its diagonal on."""
    width = max(-(-d // STRIPS), NARROW)
    return [(slice(start, start + width), slice(start, None)) for start in range(0, d, width)]
