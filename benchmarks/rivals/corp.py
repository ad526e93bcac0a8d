"""CORP (Zhang and Yang 2026, arXiv:2602.05243v2): lost activations as affine maps of kept ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.moments import channel_moments
from benchmarks.rivals.shared.readers import folded
from mipp.criteria.shared.criterion import CriterionInput
from mipp.graph import LayerPair
from mipp.selection.selection import Selection

RIDGE = 1e-3  # of the mean variance of a kept channel; ours, the paper's code is not public


def corp(given: CriterionInput, selection: Selection) -> nn.Module:
    """The network cut, each lost channel replaced by its best affine guess from the kept ones.

    Source: the compensation of hidden units, which the paper has for perceptrons; here for every
    layer that reads hidden channels, a head's features sharing one map. The paper's other half,
    logits after dimensions of queries and keys went, has no counterpart where whole heads go.
    """
    moments = channel_moments(given)

    def fold(pair: LayerPair, weight: Tensor, kept: np.ndarray) -> tuple[Tensor, Tensor]:
        own = moments[pair.group]
        slope, offset = affine_map(own.mean, own.covariance, kept)
        return (
            torch.einsum("ohx,hk->okx", weight, slope),
            torch.einsum("ohx,h->o", weight, offset),
        )

    return folded(given, selection, fold)


def affine_map(mean: Tensor, covariance: Tensor, kept: np.ndarray) -> tuple[Tensor, Tensor]:
    """Slope (channels, kept) and offset (channels,) of the guess at each channel.

    A kept channel's guess is itself: slope 1, offset 0.
    """
    own, gone = torch.from_numpy(kept), torch.from_numpy(_others(len(mean), kept))
    inner = covariance[own][:, own]
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(own), dtype=mean.dtype)
    slope = mean.new_zeros(len(mean), len(own))
    slope[own] = torch.eye(len(own), dtype=mean.dtype)
    slope[gone] = torch.linalg.solve(inner + ridge, covariance[own][:, gone]).T
    return slope, mean - slope @ mean[own]


def _others(width: int, kept: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(width), kept)
