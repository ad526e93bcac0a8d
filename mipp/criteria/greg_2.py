"""Growing regularisation of all units (GReg-2, Wang et al. 2021, arXiv:2012.09243)."""

from __future__ import annotations

import numpy as np
import torch

from mipp.criteria.shared.calibrated_steps import Descent, Weights, train_copies
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.driving import grown
from mipp.criteria.shared.unit_weights import Makers, over_mean
from mipp.selection.scores import GroupScores

DESCENT = Descent()
DECAY = 0.5  # weights that the loss does not hold shrink to e to the power of minus this


def score_greg_2(given: CriterionInput) -> GroupScores:
    """L1 norm of a unit after training under an L2 penalty that grows for all units alike.

    Where the loss is more curved, weights resist it more: norms that were alike come apart by the
    Hessian, which nobody has to know. Norms are divided by their mean over the group.

    Departs: trains for 4 passes over at most 1,024 images; the penalty acts as a factor on the
    weights after every step.
    """
    return over_mean(Makers(given).magnitudes(train_under_penalty(given)))


def train_under_penalty(given: CriterionInput) -> Weights:
    """Weights after the penalty has grown to its end."""
    makers, widths = Makers(given), given.graph.widths

    def after(weights: Weights, before: float, now: float) -> None:
        factor = float(np.exp(-DECAY * (grown(now) - grown(before))))
        makers.scale(
            weights, {n: torch.full((w,), factor, device="cpu") for n, w in widths.items()}
        )

    return train_copies(given, DESCENT, after=after)
