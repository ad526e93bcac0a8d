"""Inverse of a positive definite matrix by its Cholesky factor, at the rate of a product.

LAPACK's own (`potri`) runs at half of that rate for the few thousand features of a wide layer,
and is most of what an estimate of one costs.
"""

from __future__ import annotations

import torch
from torch import Tensor

STRIP = 384  # columns of one product: more waste zeros of the triangle, fewer are slow


def invert(matrix: Tensor) -> int:
    """Inverse of a positive definite matrix in its place; 0, or the pivot at which it stops."""
    failed = factorise(matrix)
    if not failed:
        invert_factored(matrix.mT)
    return failed


def factorise(matrix: Tensor) -> int:
    """The lower Cholesky factor's transpose in a matrix's place; 0, or the pivot where it stops.

    LAPACK works on columns: it is handed the transpose, which is the same matrix, since torch
    would otherwise copy it back and forth.
    """
    columns = matrix.mT
    failed = torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(columns, out=(columns, failed))
    return int(failed)


def invert_factored(lower: Tensor) -> None:
    """From the lower Cholesky factor L of A to the inverse of A, both of its triangles.

    Parameters
    ----------
    lower : (n, n), zeros above the diagonal; overwritten.
    """
    if len(lower) <= 2 * STRIP:
        torch.cholesky_inverse(lower, out=lower)
        return
    strips = [slice(start, min(start + STRIP, len(lower))) for start in range(0, len(lower), STRIP)]
    _invert_triangle(lower, strips)
    _square(lower, strips)


def _invert_triangle(lower: Tensor, strips: list[slice]) -> None:
    """From L to R, its inverse: R21 = -R22 L21 R11, from the last strip of columns to the first."""
    for place in reversed(range(len(strips))):
        own, below = strips[place], strips[place + 1 :]
        corner = lower[own, own]
        eye = torch.eye(len(corner), dtype=lower.dtype, device=lower.device)
        corner.copy_(torch.linalg.solve_triangular(corner, eye, upper=False))
        stop = own.stop
        side = torch.mm(lower[stop:, own], corner.neg())
        for rows in below:
            inverted = lower[rows, stop : rows.stop]
            torch.mm(inverted, side[: rows.stop - stop], out=lower[rows, own])


def _square(inverted: Tensor, strips: list[slice]) -> None:
    """From R to R' R: above the diagonal first, where R has zeros, then its mirror image."""
    for own in strips:
        left, right = inverted[own.start :, : own.stop], inverted[own.start :, own]
        inverted[: own.stop, own] = left.mT @ right
    for own in strips:
        inverted[own.stop :, own] = inverted[own, own.stop :].mT
