"""Incremental regularisation by rank (IncReg, Wang et al. 2019, arXiv:1811.08390)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mipp.criteria.shared.calibrated_steps import Descent, Weights, train_copies
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.order import scores_of_order
from mipp.criteria.shared.unit_weights import Makers
from mipp.selection.scores import GroupScores

DESCENT = Descent()
STEP = 6.0  # what the lowest unit's factor grows by over training, if it stays the lowest
BEND = 0.25  # of the increments, u in the authors' code
RATIO = 0.5  # of a group's units whose factors are to grow


def score_increg(given: CriterionInput) -> GroupScores:
    """Order in which units leave: those whose L2 penalty has grown most, then the smallest.

    After every step the factor of a unit's penalty grows by an increment that its rank in the
    group decides, and its weights shrink by the factor. Ranks are those of L1 norms, averaged over
    all steps so far. The lowest grow most, the middle does not change, the highest go down
    again, to no less than zero; of units at zero, those of the least L1 norm leave first.

    Source: arXiv:1811.08390; the increments are those of the authors' code. Departs: half of
    a group's units are to leave, whatever the budget; trains for 4 passes over at most 1,024
    images; a unit whose factor has grown high is not taken out before the end.
    """
    weights, factors = train_under_increments(given)
    return {
        name: scores_of_order(np.lexsort((norms, -factors[name])).tolist())
        for name, norms in Makers(given).magnitudes(weights).items()
    }


def train_under_increments(
    given: CriterionInput,
) -> tuple[Weights, dict[str, npt.NDArray[np.float64]]]:
    """Weights after training, and the factors of the units."""
    makers, widths = Makers(given), given.graph.widths
    factors = {name: np.zeros(width) for name, width in widths.items()}
    ranks = {name: np.zeros(width) for name, width in widths.items()}  # added up

    def after(weights: Weights, before: float, now: float) -> None:
        shrink = {}
        for name, norms in makers.magnitudes(weights).items():
            ranks[name] += norms.argsort(kind="stable").argsort()
            order = ranks[name].argsort(kind="stable").argsort()
            grown = factors[name] + STEP * (now - before) * increments(len(order))[order]
            factors[name] = np.maximum(grown, 0)
            shrink[name] = torch.from_numpy(np.exp(-factors[name] * (now - before)))
        makers.scale(weights, shrink)

    return train_copies(given, DESCENT, after=after), factors


def increments(width: int) -> npt.NDArray[np.float64]:
    """By rank, the lowest first, what a factor grows by, as a share of the largest: (width,).

    Two exponentials that mirror each other about a point and pass through zero where ranks
    reach the number of units that are to leave.
    """
    number = max(1.0, RATIO * width)
    slope = np.log(2 / BEND) / number
    centre = -np.log(BEND) / slope
    rank = np.arange(width)
    above = 2 * BEND - np.exp(-slope * (2 * centre - rank))
    return np.asarray(np.where(rank < centre, np.exp(-slope * rank), above))
