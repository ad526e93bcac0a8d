"""OSSCAR (Meng et al. 2024, arXiv:2403.12983): greedy removal and swaps under least squares."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.sequence import Products, Reduced, features, one_after_the_other
from mipp.criteria.shared.criterion import CriterionInput
from mipp.selection.selection import Selection

RIDGE = 1e-2  # of the mean square of an input, toward the dense weights; the authors' lambda2
SWAPS = 20  # at most


def osscar(given: CriterionInput, widths: Selection) -> tuple[nn.Module, Selection]:
    """The network cut, and the units that it keeps: as many as `widths` says, its own choice.

    Source: section 3, as in the authors' code (mazumder-lab/OSSCAR, prune_algo.py): inputs are
    those of the pruned network, targets those of the dense one.
    """
    return one_after_the_other(given, widths, reduce, "osscar")


def reduce(products: Products, dense: Tensor, keep: int) -> Reduced:
    """Channels left after greedy removal and swaps, with the weights that fit best.

    Parameters
    ----------
    dense : weights (channels * block, outputs).
    """
    xx, xy, block = products
    ridge = RIDGE * xx.diagonal().mean()
    xx = xx + ridge * torch.eye(len(xx), dtype=xx.dtype)
    xy = xy + ridge * dense
    kept = _swapped(xx, xy, block, _greedy(xx, xy, block, keep))
    rows = features(kept, block)
    return Reduced(kept, torch.linalg.solve(xx[rows][:, rows], xy[rows]))


def _greedy(xx: Tensor, xy: Tensor, block: int, keep: int) -> np.ndarray:
    """Channels left when each time that goes with which the least error comes.

    The error that a channel's loss adds is half of sum W_c' (P_cc)^-1 W_c, where P is the inverse
    of the products of what is left and W its weights.
    """
    inverse = torch.linalg.inv(xx)
    weight = inverse @ xy
    left = list(range(len(xx) // block))
    while len(left) > keep:
        at = int(torch.stack([_cost(inverse, weight, i, block) for i in range(len(left))]).argmin())
        gone = slice(at * block, (at + 1) * block)
        stay = torch.cat([torch.arange(gone.start), torch.arange(gone.stop, len(inverse))])
        column = inverse[stay, gone] @ torch.linalg.inv(inverse[gone, gone])
        weight = weight[stay] - column @ weight[gone]
        inverse = inverse[stay][:, stay] - column @ inverse[gone][:, stay]
        del left[at]
    return np.array(left)


def _cost(inverse: Tensor, weight: Tensor, channel: int, block: int) -> Tensor:
    own = slice(channel * block, (channel + 1) * block)
    return (weight[own] * torch.linalg.solve(inverse[own, own], weight[own])).sum() / 2


def _swapped(xx: Tensor, xy: Tensor, block: int, kept: np.ndarray) -> np.ndarray:
    """Channels after swaps: the cheapest goes, the one that helps most comes, while that helps."""
    best = _objective(xx, xy, block, kept)
    for _ in range(SWAPS):
        rows = features(kept, block)
        inverse = torch.linalg.inv(xx[rows][:, rows])
        weight = inverse @ xy[rows]
        costs = [float(_cost(inverse, weight, i, block)) for i in range(len(kept))]
        fewer = np.delete(kept, int(np.argmin(costs)))
        others = np.setdiff1d(np.arange(len(xx) // block), fewer)
        tried = [np.sort(np.append(fewer, channel)) for channel in others]
        errors = [_objective(xx, xy, block, channels) for channels in tried]
        if min(errors) >= best * (1 + 1e-9):  # both are below 0
            break
        best, kept = min(errors), tried[int(np.argmin(errors))]
    return kept


def _objective(xx: Tensor, xy: Tensor, block: int, kept: np.ndarray) -> float:
    """Half the squared error of the best weights, less that of no channel at all: never above 0."""
    rows = features(kept, block)
    return -float((xy[rows] * torch.linalg.solve(xx[rows][:, rows], xy[rows])).sum()) / 2
