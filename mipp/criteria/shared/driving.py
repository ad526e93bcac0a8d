"""Units driven to zero by a growing penalty before they leave, while what stays is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.calibrated_steps import Descent, Weights, train_copies
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.elimination import Alive, score_by_elimination
from mipp.criteria.shared.unit_gates import Tensors, gated, gates_of, tensors_of
from mipp.criteria.shared.unit_weights import Makers, over_mean
from mipp.selection.scores import GroupScores

ROUNDS = 5
DESCENT = Descent(images=512, passes=2)
DECAY = 5.0  # of a driven unit's weights, e to the power of minus this is left

Leaving = Mapping[str, Tensor]  # group -> bool (width,), the units that are driven to zero
Penalty = Callable[[Weights, Leaving, float], None]  # in place, by this share of the whole
Rank = Callable[[Tensors], GroupScores]


def score_by_driving(given: CriterionInput, rank: Rank, penalise: Penalty) -> GroupScores:
    """Order in which units leave when the lowest of each round are driven to zero in the next.

    Weights go from round to round. A round trains them for two passes over the first 512 images
    while the penalty on the units that are to leave grows with every step; then these are
    gone, and what is left is ranked anew, by scores over their mean in the group.

    Parameters
    ----------
    rank : scores of all units by the parameters as they stand.
    penalise : one step of the penalty on the leaving units; the shares of a round add up to 1.
    """
    weights: Tensors = tensors_of(given.model)
    there = {name: np.ones(width, bool) for name, width in given.graph.widths.items()}

    def score(alive: Alive) -> GroupScores:
        nonlocal weights, there
        leaving = {name: there[name] & ~alive[name] for name in there}
        if any(units.any() for units in leaving.values()):
            weights = drive(given, weights, there, leaving, penalise)
        there = {name: present.copy() for name, present in alive.items()}
        return over_mean(rank(weights), alive)

    return score_by_elimination(given.graph.widths, score, ROUNDS)


def drive(
    given: CriterionInput, start: Tensors, there: Alive, leaving: Alive, penalise: Penalty
) -> Weights:
    """Weights after a round that drives units to zero, with those no longer there gated off."""
    gates = gates_of(given, there)
    going = {name: torch.from_numpy(leaving[name]).to(gates[name].device) for name in gates}

    def after(weights: Weights, before: float, now: float) -> None:
        penalise(weights, going, grown(now) - grown(before))

    within = partial(gated, given.model, given.graph, gates)
    own = {name: start[name] for name, _ in given.model.named_parameters()}
    return train_copies(given, DESCENT, start=own, within=within, after=after)


def grown(share: float) -> float:
    """What a penalty that grows with every step comes to by a share of the steps, of 1."""
    return share**2


def decay(makers: Makers, weights: Weights, leaving: Leaving, share: float) -> None:
    """A step of the L2 penalty: weights that make leaving units shrink by a factor."""
    factor = float(np.exp(-DECAY * share))
    factors = {name: torch.where(units, factor, 1.0) for name, units in leaving.items()}
    makers.scale(weights, factors)
