"""One channel's block of features: the variance that it explains, the nats that go with it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipp.errors import SingularCovarianceError, option

DOUBT = 1e3  # a pivot must be this many times what rounding may have made of it


def diagonal_blocks(matrix: Tensor, channels: int) -> Tensor:
    """The (block, block) matrices on the diagonal, shape (channels, block, block)."""
    block = matrix.shape[0] // channels
    grid = matrix.view(channels, block, channels, block)
    return grid.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def explained(blocks: Tensor, crosses: Tensor, noise: float = 0.0) -> Tensor:
    """diag(C' A^-1 C) for each block A (c, b, b) and C (c, b, m); shape (c, m).

    Parameters
    ----------
    noise : as for `require_clear`.
    """
    factors, failed = torch.linalg.cholesky_ex(blocks)
    pivots = factors.diagonal(dim1=1, dim2=2)
    require_clear(pivots.cpu().numpy(), int(failed.max()) if len(failed) else 0, noise)
    half = torch.linalg.solve_triangular(factors, crosses, upper=False)
    rises: Tensor = half.square_().sum(1)
    return rises


def dirty(pivots: npt.NDArray[np.float64], noise: float) -> npt.NDArray[np.bool_]:
    """Which blocks, (...), of pivots (..., block) have one that may be all rounding."""
    if not noise:
        return np.zeros(pivots.shape[:-1], bool)
    clear: npt.NDArray[np.bool_] = np.square(pivots) > DOUBT * noise
    return np.asarray(~clear.all(-1))


def require_clear(pivots: npt.NDArray[np.float64], failed: int, noise: float) -> None:
    """Refuse a channel's block of which rounding has left nothing.

    Parameters
    ----------
    pivots : the diagonals of the blocks' Cholesky factors, (..., block).
    failed : the pivot at which the factorisation stops, or 0.
    noise : what rounding may have made of a squared pivot; nothing is known if 0.

    Raises
    ------
    SingularCovarianceError : it stops, or a pivot may be all rounding.
    """
    if not failed and not dirty(pivots, noise).any():
        return
    where = f"whose factorisation stops at pivot {failed}" if failed else "that is all rounding"
    block = pivots.shape[-1]
    raise SingularCovarianceError(
        "a channel's information cannot be told: rounding has used up its block of the "
        f"precision matrix.\nExpected a positive definite {(block, block)} block, got one "
        f"{where}; raise {option('Gaussian.ridge')}."
    )


class Residuals:
    """The variance of each target that is left to explain, and what more of it is in nats."""

    def __init__(self, residual: Tensor, floor: Tensor) -> None:
        self.residual = residual  # (m,), grows with every drop
        self.floor = floor  # (m,) noise floor, see `PairState`

    def nats(self, rise: Tensor, before: Tensor | None = None) -> Tensor:
        """Information lost at a rise of (..., m) in residual variance, not below 0; shape (...).

        Parameters
        ----------
        before : what the residual variance has risen by before, (..., m).
        """
        now = self.residual + self.floor
        if before is not None:
            now = now + before
        constant = now <= 0  # such a target tells nothing
        return (rise / now.masked_fill_(constant, torch.inf)).log1p_().sum(-1).mul_(0.5)

    def to(self, device: torch.device) -> Residuals:
        """A copy on a device."""
        return Residuals(*(part.to(device, copy=True) for part in (self.residual, self.floor)))
