"""Structured sparsity learning: group lasso on filters and channels (Wen et al. 2016)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.calibrated_steps import Descent, Weights, train_copies
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.unit_gates import Tensors, tensors_of
from mipp.criteria.shared.unit_weights import Slice, made_by, read_by
from mipp.selection.scores import GroupScores

DESCENT = Descent()
SHRINK = 0.5  # of the mean norm over a group, that a unit loses which the loss does not hold


def score_ssl(given: CriterionInput) -> GroupScores:
    """Norm that a unit's weights have left after training under group lasso.

    The weights that make a unit (filters) are one group of the lasso, those that read it
    (channels) another; after every step both norms are cut by the same amount, and what
    would fall below zero is zero. A unit is gone when either is, hence the score: the
    geometric mean of both, each over its mean in the group before training.

    Source: arXiv:1608.03665v4 eq. (3). Departs: trains for 4 passes over at most 1,024 images; the
    strength is such that in all, half of the mean norm is taken.
    """
    first = tensors_of(given.model)
    sides = _sides(given)
    means = [float(_norms(slices, first).mean()) for _, slices in sides]
    trained = train_under_lasso(given, sides, means)
    scores = {name: np.ones(width) for name, width in given.graph.widths.items()}
    for (name, slices), mean in zip(sides, means, strict=True):
        scores[name] *= (_norms(slices, trained).double().cpu().numpy() / (mean or 1.0)) ** 0.5
    return scores


def train_under_lasso(
    given: CriterionInput, sides: list[tuple[str, list[Slice]]], means: list[float]
) -> Weights:
    """Weights after training, the norms of each side cut by a share of their mean."""

    def after(weights: Weights, before: float, now: float) -> None:
        for (_, slices), mean in zip(sides, means, strict=True):
            norms = _norms(slices, weights)
            less = SHRINK * mean * (now - before)
            left = (1 - less / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_min(0)
            for one in slices:
                one.scale(weights, left)

    return train_copies(given, DESCENT, after=after)


def _sides(given: CriterionInput) -> list[tuple[str, list[Slice]]]:
    """By group what makes it, then what reads it; sides without weights are left out."""
    both = [
        (name, side(given, group))
        for name, group in given.graph.groups.items()
        for side in (made_by, read_by)
    ]
    return [(name, slices) for name, slices in both if slices]


def _norms(slices: list[Slice], weights: Tensors) -> Tensor:
    """Euclidean norm of each unit's weights in all layers together, (width,)."""
    squares = [one.rows(weights).detach().square().sum(1) for one in slices]
    return torch.stack(squares).sum(0).sqrt()
