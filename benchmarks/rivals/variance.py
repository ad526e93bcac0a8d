"""Variance-based pruning (Berisha et al. 2025, arXiv:2507.12988v1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.moments import channel_moments
from benchmarks.rivals.shared.readers import folded
from mipp.criteria.shared.criterion import CriterionInput
from mipp.graph import LayerPair
from mipp.selection.scores import GroupScores
from mipp.selection.selection import Selection


def score_variance(given: CriterionInput) -> GroupScores:
    """Variance of each unit's activation, over images and places.

    Source: section 3.1; the paper prunes the hidden units of perceptrons alone.
    """
    return {
        name: moments.covariance.diagonal().clamp_min(0).numpy()
        for name, moments in channel_moments(given).items()
    }


def mean_shift(given: CriterionInput, selection: Selection) -> nn.Module:
    """The network cut, with what the lost channels are on average in the readers' biases.

    Source: section 3.3. Departs: a convolution's shift is that of places away from the border.
    """
    moments = channel_moments(given)

    def fold(pair: LayerPair, weight: Tensor, kept: np.ndarray) -> tuple[Tensor, Tensor]:
        means = moments[pair.group].mean.clone()
        means[torch.from_numpy(kept)] = 0.0
        return weight[:, torch.from_numpy(kept)], torch.einsum("ohx,h->o", weight, means)

    return folded(given, selection, fold)
