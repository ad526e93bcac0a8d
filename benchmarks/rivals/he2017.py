"""LASSO and least squares, layer by layer (He, Zhang and Sun 2017, arXiv:1707.06168v2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.sequence import Products, Reduced, features, one_after_the_other
from mipp.criteria.he2017 import leaving_order
from mipp.criteria.shared.criterion import CriterionInput
from mipp.selection.selection import Selection

RIDGE = 1e-8  # of the mean square of an input: the paper's least squares have none


def he2017(given: CriterionInput, widths: Selection) -> tuple[nn.Module, Selection]:
    """The network cut, and the units that it keeps: as many as `widths` says, its own choice.

    Source: section 3.1, eq. (2) and (3); for whole networks section 3.2: inputs are those of the
    pruned network, targets those of the dense one; section 3.3: the last layer of a residual
    branch makes up for the error on the shortcut. Departs: the LASSO path is followed exactly.
    """
    return one_after_the_other(given, widths, reduce, method="he2017", target="sum")


def reduce(products: Products, dense: Tensor, keep: int) -> Reduced:
    """Channels of the LASSO path, with the weights of least squared error for them.

    Parameters
    ----------
    dense : weights (channels * block, outputs).
    """
    xx, xy, block = products
    channels = len(xx) // block
    gram = (xx * (dense @ dense.T)).reshape(channels, block, channels, block).sum((1, 3))
    kept = np.sort(np.array(leaving_order(gram.numpy())[channels - keep :]))
    rows = features(kept, block)
    ridge = RIDGE * xx.diagonal().mean() * torch.eye(len(rows), dtype=xx.dtype)
    return Reduced(kept, torch.linalg.solve(xx[rows][:, rows] + ridge, xy[rows]))
