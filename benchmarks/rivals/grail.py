"""GRAIL (Tang et al. 2026, arXiv:2602.23795): a ridge map from kept to all channels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.moments import channel_moments
from benchmarks.rivals.shared.readers import folded
from mipp.criteria.shared.criterion import CriterionInput
from mipp.graph import LayerPair
from mipp.selection.selection import Selection

RIDGE = 1e-3  # of the mean square of a kept channel, as in the authors' code


def grail(given: CriterionInput, selection: Selection) -> nn.Module:
    """The network cut, with the reconstruction of all channels folded into each reader.

    Source: eq. (3) to (5), as in the authors' code (TWWinde/GRAIL_Compensation,
    grail-vision/compensation/prune_compensation.py): the products are those of the dense network.
    """
    moments = channel_moments(given)

    def fold(pair: LayerPair, weight: Tensor, kept: np.ndarray) -> tuple[Tensor, Tensor]:
        to_all = reconstruction(moments[pair.group].second, kept)
        return torch.einsum("ohx,hk->okx", weight, to_all), weight.new_zeros(len(weight))

    return folded(given, selection, fold)


def reconstruction(second: Tensor, kept: np.ndarray) -> Tensor:
    """The map (channels, kept) of least squared error from kept channels to all.

    Parameters
    ----------
    second : products of channels (channels, channels).
    kept : indices, sorted.
    """
    own = torch.from_numpy(kept)
    inner = second[own][:, own]
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(own), dtype=second.dtype)
    return torch.linalg.solve(inner + ridge, second[own]).T
