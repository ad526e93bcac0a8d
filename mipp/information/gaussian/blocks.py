"""One channel's block of features: the variance that it explains, the nats that go with it."""

from __future__ import annotations

import torch
from torch import Tensor


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


class Residuals:
    """The variance of each target that is left to explain, and what more of it is in nats."""

    def __init__(self, residual: Tensor, floor: Tensor) -> None:
        self.residual = residual  # (m,), grows with every drop
        self.floor = floor  # (m,) noise floor, see `PairState`

    def nats(self, rise: Tensor) -> Tensor:
        """Information lost at a rise of (..., m) in residual variance; shape (...)."""
        now = self.residual + self.floor
        constant = now <= 0
        ratio = rise.clamp_min(0) / now.masked_fill(constant, 1.0)
        return 0.5 * ratio.masked_fill(constant, 0.0).log1p().sum(-1)
