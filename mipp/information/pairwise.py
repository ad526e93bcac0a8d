"""Information between single channels, and of each with the targets, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairwiseInformation:
    """What mRMR and MIFS know about a layer pair, in nats."""

    relevance: Tensor  # (channels,) of each channel with all targets
    redundancy: Tensor  # (channels, channels) of two channels; 0 on the diagonal


def pairwise_information(
    covariance: Tensor, channels: int, block: int, *, ridge: float, resolution: float
) -> PairwiseInformation:
    """Gaussian information of every channel with the targets and with every other channel.

    Both sides are seen through noise of `resolution` times each feature's variance: copies would
    have infinite information otherwise.

    Parameters
    ----------
    covariance : (d + m, d + m) of features and targets, d = channels * block; the features of a
        channel are adjacent.
    ridge : added to the variances, as a share of their mean.
    """
    noisy = covariance.clone()
    variances = covariance.diagonal()
    noisy.diagonal().add_(resolution * variances + ridge * (float(variances.mean()) or 1.0))
    d = channels * block
    own = noisy[:d, :d].view(channels, block, channels, block)
    roots = torch.linalg.cholesky(own.diagonal(dim1=0, dim2=2).permute(2, 0, 1))
    target_root = torch.linalg.cholesky(noisy[d:, d:])
    half = _solve(roots, noisy[:d].view(channels, block, -1))  # (channels, block, d + m)
    with_targets = _solve(target_root, half[:, :, d:].mT).mT
    redundancy = torch.zeros(channels, channels, dtype=noisy.dtype, device=noisy.device)
    for channel in range(channels):
        crossed = half[channel, :, :d].view(block, channels, block).permute(1, 2, 0)
        redundancy[channel] = _nats(_solve(roots, crossed), besides=channel)
    return PairwiseInformation(_nats(with_targets), redundancy)


def _solve(root: Tensor, right: Tensor) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(root, right, upper=False)
    return solved


def _nats(correlations: Tensor, besides: int | None = None) -> Tensor:
    """-1/2 log |1 - C C'| of cross-correlations (n, a, b) of whitened sides; 0 for one of them."""
    left = -(correlations @ correlations.mT)
    if besides is not None:
        left[besides] = 0.0  # of a channel with itself
    left.diagonal(dim1=1, dim2=2).add_(1.0)
    root: Tensor = torch.linalg.cholesky(left)
    return -root.diagonal(dim1=1, dim2=2).log().sum(1)
