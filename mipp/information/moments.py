"""First and second moments of (x, y), streamed chunk by chunk in float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

STRIPS = 4


@dataclass(frozen=True)
class Moments:
    """Count, means and centred sums of upstream features x (n, d) and targets y (n, m)."""

    n: int
    x_mean: Tensor  # (d,)
    y_mean: Tensor  # (m,)
    xx: Tensor  # (d, d) sum of (x - mean)(x - mean)'
    xy: Tensor  # (d, m)
    yy: Tensor  # (m,) sum of (y - mean)^2


def of_rows(x: Tensor, y: Tensor) -> Moments:
    """Moments of one chunk: x of shape (n, ...) is flattened to (n, d), y is (n, m)."""
    x, y = x.flatten(1), y.flatten(1)
    x_mean, y_mean = (v.mean(0, dtype=torch.float64) for v in (x, y))
    x, y = x - x_mean, y - y_mean  # float64 from here on
    return Moments(x.shape[0], x_mean, y_mean, _gram(x), x.T @ y, (y * y).sum(0))


def _gram(x: Tensor) -> Tensor:
    """x'x, (d, d): its upper part in strips, mirrored, for 5/8 of the work of a full product."""
    d = x.shape[1]
    if d < STRIPS * 64:
        return x.T @ x
    gram, width = x.new_empty(d, d), -(-d // STRIPS)
    for start in range(0, d, width):
        strip, rest = slice(start, start + width), slice(start, None)
        gram[strip, rest] = x[:, strip].T @ x[:, rest]
        gram[rest, strip] = gram[strip, rest].T
    return gram


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
    )


def stream(chunks: Iterable[tuple[Tensor, Tensor]]) -> Moments:
    """Moments of all chunks.

    Raises
    ------
    ValueError : there is no chunk.
    """
    total: Moments | None = None
    for x, y in chunks:
        part = of_rows(x, y)
        total = part if total is None else merge(total, part)
    if total is None:
        raise ValueError("moments of no rows: expected at least one chunk, got none")
    return total
