"""Iterative magnitude pruning with rewinding (Frankle and Carbin 2019, arXiv:1803.03635)."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from mipp.criteria.shared.calibrated_steps import Descent, train_copies
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.elimination import Alive, score_by_elimination
from mipp.criteria.shared.unit_gates import Tensors, gated, gates_of
from mipp.criteria.shared.unit_weights import Makers, over_mean
from mipp.selection.scores import GroupScores

ROUNDS = 10
DESCENT = Descent(images=512, passes=1)


def score_imp(given: CriterionInput) -> GroupScores:
    """Order in which units leave when every round trains what is left and drops small weights.

    After each round the weights are again those of the network given (rewinding). A unit's
    magnitude is the sum of its absolute incoming weights, divided by the mean of those
    that are left in its group.

    Departs: a round trains for one pass over the first 512 calibration images, where the
    paper trains to the end on all data; units leave instead of weights.
    """
    return score_by_rewinding(given, None)


def score_by_rewinding(given: CriterionInput, start: Tensors | None) -> GroupScores:
    """Rounds that each train from `start`, from the network's own weights where there is none."""
    makers = Makers(given)

    def score(alive: Alive) -> GroupScores:
        trained = train_gated(given, alive, start=start)
        return over_mean(makers.magnitudes(trained), alive)

    return score_by_elimination(given.graph.widths, score, ROUNDS)


def train_gated(
    given: CriterionInput, alive: Alive, descent: Descent = DESCENT, start: Tensors | None = None
) -> dict[str, Tensor]:
    """Parameters after training from the given ones, with the units that left gated off."""
    within = partial(gated, given.model, given.graph, gates_of(given, alive))
    return train_copies(given, descent, start=start, within=within)
