"""Nearest neighbours (Kraskov, Stögbauer and Grassberger 2004, Phys. Rev. E 69, 066138)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import KDTree
from scipy.special import digamma
from torch import Tensor

from mipp.direct_settings import Neighbours
from mipp.information.direct.eliminate import direct_estimator

Counts = npt.NDArray[np.float64]
FLAT = 8  # columns, up to which a tree is quicker than all distances
TIES = 1e-10  # of a deviation: values that are the same have no neighbour at a distance


def measure_by_neighbours(x: Tensor, y: Tensor, settings: Neighbours, seed: int) -> float:
    """Nats by how many rows lie nearer in x alone, and in y alone, than the k-th in both.

    Blind: it tells too little where information is large (ln n is out of reach) or dimensions are
    many, since a row's nearest neighbours are then far. Of classes it sees what the ties that are
    broken at random leave.

    Source: eq. (8), with the maximum norm in and between both. scikit-learn's own serves pairs of
    single columns alone.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(x), x.shape[1] + y.shape[1], generator=generator, dtype=torch.float64)
    noise = TIES * noise.to(x.device)
    x, y = x + noise[:, : x.shape[1]], y + noise[:, x.shape[1] :]
    n, k = len(x), min(settings.neighbours, len(x) - 1)
    if x.shape[1] + y.shape[1] <= FLAT:
        near = _near_in_trees([side.cpu().numpy() for side in (x, y)], k)
    else:
        near = _near_by_distances([torch.cdist(side, side, p=torch.inf) for side in (x, y)], k)
    return float(digamma(k) + digamma(n) - sum(digamma(count).mean() for count in near))


def _near_in_trees(sides: list[Counts], k: int) -> list[Counts]:
    """Per side (n,): rows nearer than the k-th in both, the row itself among them."""
    both = np.hstack(sides)
    distances, _ = KDTree(both).query(both, k=k + 1, p=np.inf)
    radius = np.nextafter(distances[:, -1], 0)  # strictly nearer
    return [
        KDTree(side).query_ball_point(side, radius, p=np.inf, return_length=True) for side in sides
    ]


def _near_by_distances(sides: list[Tensor], k: int) -> list[Counts]:
    """The same from all distances (n, n), where trees of many dimensions help nothing."""
    radius = torch.maximum(*sides).kthvalue(k + 1).values[:, None]
    return [(side < radius).sum(1).cpu().numpy() for side in sides]


ESTIMATOR = direct_estimator(Neighbours, measure_by_neighbours)
