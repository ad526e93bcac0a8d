"""CORP (Zhang and Yang 2026, arXiv:2602.05243v2): lost activations as affine maps of kept ones."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.moments import channel_moments
from benchmarks.rivals.shared.queries_and_keys import SUFFIX, logits_of, narrowed
from benchmarks.rivals.shared.readers import folded
from mipp.criteria.shared.criterion import CriterionInput
from mipp.graph import LayerPair
from mipp.selection.selection import Selection

RIDGE = 1e-3  # of the mean variance of what is kept; ours, the paper's code is not public


def corp(given: CriterionInput, selection: Selection) -> nn.Module:
    """The network cut, what is lost replaced by its best guess from what is kept.

    Source: the compensations of hidden units, which the paper has for perceptrons and which is here
    for every layer that reads hidden channels, and of logits after dimensions of queries and keys
    went. Both are of the dense network.

    Parameters
    ----------
    selection : of hidden channels, and of dimensions of queries and keys, see `with_dimensions`.
    """
    moments = channel_moments(given)

    def fold(pair: LayerPair, weight: Tensor, kept: np.ndarray) -> tuple[Tensor, Tensor]:
        own = moments[pair.group]
        slope, offset = affine_map(own.mean, own.covariance, kept)
        return (
            torch.einsum("ohx,hk->okx", weight, slope),
            torch.einsum("ohx,h->o", weight, offset),
        )

    dimensions = {name for name in selection.kept if name.endswith(SUFFIX)}
    model = folded(given, without(selection, dimensions), fold)
    if not dimensions:
        return model
    logits = {name: own for name, own in logits_of(given).items() if name in dimensions}
    kept = {name: own.order[:, selection.kept[name]] for name, own in logits.items()}
    maps = {
        name: torch.stack(list(map(logit_map, own.products, kept[name])))
        for name, own in logits.items()
    }
    return narrowed(model, kept, maps)


def without(selection: Selection, groups: Collection[str]) -> Selection:
    """What a selection says of the other groups."""
    kept = {name: channels for name, channels in selection.kept.items() if name not in groups}
    return replace(selection, kept=kept, width={name: selection.width[name] for name in kept})


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


def logit_map(products: Tensor, kept: Tensor) -> Tensor:
    """The map (k, k) by which a head's kept dimensions guess at all of its logits, q @ map @ k^T.

    Parameters
    ----------
    products : those of one head, see `Logits` (size**2, size**2).
    """
    size = math.isqrt(len(products))
    own = (kept[:, None] * size + kept).ravel()
    gone = torch.from_numpy(_others(size, kept.numpy())) * (size + 1)
    inner = products[own][:, own]
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(own), dtype=inner.dtype)
    guess: Tensor = torch.linalg.solve(inner + ridge, products[own][:, gone].sum(1))
    return guess.view(len(kept), -1) + torch.eye(len(kept), dtype=guess.dtype)


def _others(width: int, kept: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(width), kept)
