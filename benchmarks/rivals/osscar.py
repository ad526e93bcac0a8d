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
    return one_after_the_other(given, widths, reduce, method="osscar", target="output")


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
    """Channels left when each time that goes with whose loss the least error comes."""
    inverse = torch.linalg.inv(xx)
    weight = inverse @ xy
    left = list(range(len(xx) // block))
    while len(left) > keep:
        at = int(_costs(inverse, weight, block).argmin())
        gone = slice(at * block, (at + 1) * block)
        stay = torch.cat([torch.arange(gone.start), torch.arange(gone.stop, len(inverse))])
        column = inverse[stay, gone] @ torch.linalg.inv(inverse[gone, gone])
        weight = weight[stay] - column @ weight[gone]
        inverse = inverse[stay][:, stay] - column @ inverse[gone][:, stay]
        del left[at]
    return np.array(left)


def _swapped(xx: Tensor, xy: Tensor, block: int, kept: np.ndarray) -> np.ndarray:
    """Channels after swaps: the cheapest goes, the one that helps most comes, while that helps."""
    for _ in range(SWAPS):
        rows = features(kept, block)
        inverse = torch.linalg.inv(xx[rows][:, rows])
        costs = _costs(inverse, inverse @ xy[rows], block)
        fewer = np.delete(kept, int(costs.argmin()))
        gains = _gains(xx, xy, block, fewer)
        if float(gains.max()) <= float(costs.min()) * (1 + 1e-9):  # it would come back
            break
        kept = np.sort(np.append(fewer, int(gains.argmax())))
    return kept


def _costs(inverse: Tensor, weight: Tensor, block: int) -> Tensor:
    """Half the squared error that each channel's loss adds, sum W_c' (P_cc)^-1 W_c / 2.

    P is the inverse of the products of what is left, W its weights.
    """
    own = weight.reshape(-1, block, weight.shape[1])
    return (own * torch.linalg.solve(_diagonal(inverse, block), own)).sum((1, 2)) / 2


def _gains(xx: Tensor, xy: Tensor, block: int, kept: np.ndarray) -> Tensor:
    """Half the squared error that each other channel takes away when it comes; no kept one does.

    Its features less what kept ones say of them explain what kept ones leave of the targets.
    """
    rows = features(kept, block)
    known = torch.linalg.solve(xx[rows][:, rows], torch.cat([xx[rows], xy[rows]], 1))
    left = xy - xx[:, rows] @ known[:, len(xx) :]
    own = _diagonal(xx - xx[:, rows] @ known[:, : len(xx)], block)
    others = torch.from_numpy(np.setdiff1d(np.arange(len(own)), kept))
    targets = left.reshape(-1, block, left.shape[1])[others]
    gains = xx.new_zeros(len(own))
    gains[others] = (targets * torch.linalg.solve(own[others], targets)).sum((1, 2)) / 2
    return gains


def _diagonal(matrix: Tensor, block: int) -> Tensor:
    """The blocks along the diagonal, (channels, block, block)."""
    channels = torch.arange(len(matrix) // block)
    return matrix.reshape(len(channels), block, len(channels), block)[channels, :, channels]
