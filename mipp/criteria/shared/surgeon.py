"""Optimal brain surgeon (Hassibi and Stork 1993): weights leave a quadratic, the rest make up.

Of E(w + d) = E(w) + d' H d / 2 the best d with w + d = 0 in a block B of weights is
-(H^-1)_:B ((H^-1)_BB)^-1 w_B, and E rises by w_B' ((H^-1)_BB)^-1 w_B / 2. The inverse without the
block is a Schur complement of the one with it.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Surgeon:
    """Weights (d,) at the minimum of a quadratic, and the inverse of its Hessian (d, d).

    Example
    -------
    >>> hessian = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    >>> surgeon = Surgeon(torch.tensor([1.0, 1.0]), torch.linalg.inv(hessian))
    >>> round(surgeon.rise(torch.tensor([0])), 4)
    0.75
    >>> surgeon.remove(torch.tensor([0]))
    >>> surgeon.weights  # the second makes up for the first
    tensor([0.0000, 1.5000])
    """

    def __init__(self, weights: Tensor, inverse: Tensor) -> None:
        self.weights, self._inverse = weights.clone(), inverse.clone()
        self._there = torch.ones(len(weights), dtype=torch.bool, device=weights.device)

    def rise(self, block: Tensor) -> float:
        """What the quadratic rises by without the weights at these indices, at least 0."""
        block = block[self._there[block]]
        own = self.weights[block]
        return float(own @ self._over_block(block, own[:, None])[:, 0]) / 2

    def remove(self, block: Tensor) -> None:
        """Take the weights at these indices out; the others move to the best of what is left."""
        block = block[self._there[block]]
        columns = self._inverse[:, block]
        self.weights -= columns @ self._over_block(block, self.weights[block][:, None])[:, 0]
        self._inverse -= columns @ self._over_block(block, columns.T)
        self._there[block] = False
        self.weights[~self._there] = 0.0
        self._inverse[~self._there] = 0.0
        self._inverse[:, ~self._there] = 0.0

    def _over_block(self, block: Tensor, values: Tensor) -> Tensor:
        """((H^-1)_BB)^-1 times values (b, k)."""
        factor = torch.linalg.cholesky(self._inverse[block][:, block])
        return torch.cholesky_solve(values, factor)


def inverse_of(hessian: Tensor, floor: float) -> Tensor:
    """The inverse (d, d) of a Hessian whose lower eigenvalues are raised to a floor.

    Parameters
    ----------
    floor : as a share of the mean absolute eigenvalue.
    """
    values, vectors = torch.linalg.eigh(hessian)
    least = floor * float(values.abs().mean()) or 1.0
    inverse: Tensor = (vectors / values.clamp(min=least)) @ vectors.T
    return inverse
