"""Kernel densities (Moon, Rajagopalan and Lall 1995, Phys. Rev. E 52, 2318)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mipp.direct_settings import KernelDensity
from mipp.information.direct.eliminate import direct_estimator


def measure_by_kernels(x: Tensor, y: Tensor, settings: KernelDensity, seed: int) -> float:
    """Mean of log p(x, y) - log p(x) - log p(y), each a Gaussian kernel's density.

    A row has no part in its own density, which would tell of it without end.

    Blind: a kernel as wide as many dimensions ask for smooths what there is to tell away, so that
    it tells too little; of a copied column too.

    Source: eqs. (5) to (8), with the kernel's covariance that of the data and Silverman's width.
    """
    densities = [_log_density(side, settings.width) for side in (torch.cat([x, y], 1), x, y)]
    return float((densities[0] - densities[1] - densities[2]).mean())


def _log_density(values: Tensor, width: float) -> Tensor:
    """Of every row, by all other rows; (n,)."""
    white, scale = _whitened(values)
    n, d = white.shape
    if d == 0:
        return values.new_zeros(n)
    bandwidth = width * (4 / (d + 2)) ** (1 / (d + 4)) * n ** (-1 / (d + 4))
    squares = torch.cdist(white, white).square() / bandwidth**2
    squares.fill_diagonal_(torch.inf)
    constant = math.log(n - 1) + d * math.log(bandwidth * math.sqrt(2 * math.pi)) + scale
    return torch.logsumexp(-squares / 2, 1) - constant


def _whitened(values: Tensor) -> tuple[Tensor, float]:
    """Coordinates of unit covariance, those without variance left out; the log of the volume."""
    centred = values - values.mean(0)
    spread, axes = torch.linalg.eigh(centred.T @ centred / len(values))
    there = spread > 1e-9 * spread.max().clamp(min=1e-300)
    deviations = spread[there].sqrt()
    return centred @ axes[:, there] / deviations, float(deviations.log().sum())


ESTIMATOR = direct_estimator(KernelDensity, measure_by_kernels)
