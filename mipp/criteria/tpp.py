"""Trainability-preserving pruning (TPP, Wang and Fu 2023, arXiv:2207.12534)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.calibrated_steps import Weights
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.driving import DECAY, Leaving, score_by_driving
from mipp.criteria.shared.unit_weights import Makers, Slice, norms_of
from mipp.selection.scores import GroupScores


def score_tpp(given: CriterionInput) -> GroupScores:
    """Order in which units leave when they are first made orthogonal to those that stay.

    The penalty is the squared Gram matrix of each layer's filters, but for the pairs of filters
    that both stay, and the squared scale and shift of the leaving units' batch norms. It
    grows until the units of least L1 norm leave; what stays then reacts to training as before.
    Norms are divided by their mean over the group.

    Source: arXiv:2207.12534v3 eq. (3) and (5). Departs: as `greg-1` does; a step of the penalty is
    one of gradient descent as long as the largest eigenvalue of the Gram matrix allows.
    """
    makers = Makers(given)
    norms = {name: norms_of(given, group) for name, group in given.graph.groups.items()}
    penalise = partial(decorrelate, makers, norms)
    return score_by_driving(given, makers.magnitudes, penalise)


def decorrelate(
    makers: Makers,
    norms: Mapping[str, Sequence[Slice]],
    weights: Weights,
    leaving: Leaving,
    share: float,
) -> None:
    """A step of the penalty, in place."""
    for name, going in leaving.items():
        if not going.any():
            continue
        for one in makers.slices[name]:
            rows = one.rows(weights)
            one.write(weights, rows - DECAY * share * gram_slope(rows, going))
        factors = torch.where(going, float(np.exp(-DECAY * share)), 1.0)
        for one in norms[name]:
            one.scale(weights, factors)


def gram_slope(rows: Tensor, going: Tensor) -> Tensor:
    """A quarter of the masked squared Gram matrix's slope, over the matrix's largest eigenvalue.

    Parameters
    ----------
    rows : filters (width, weights), W.
    going : which of them leave, bool (width,).
    """
    gram = rows @ rows.T
    largest = torch.linalg.matrix_norm(gram, 2)
    masked = torch.where(going[:, None] | going, gram, 0.0)
    slope: Tensor = masked @ rows / largest.clamp_min(torch.finfo(rows.dtype).tiny)
    return slope
