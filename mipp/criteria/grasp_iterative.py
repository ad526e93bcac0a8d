"""GraSP in rounds, as de Jorge et al. 2021 (arXiv:2006.09081) and Verdenius et al. 2020 do."""

from __future__ import annotations

from functools import partial

from mipp.criteria.grasp import gradient_flow
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.elimination import score_by_elimination
from mipp.criteria.shared.unit_gates import gates_of
from mipp.selection.scores import GroupScores

ROUNDS = 10
IMAGES = 128


def score_grasp_iterative(given: CriterionInput) -> GroupScores:
    """Order in which units leave when GraSP scores what is left anew in every round.

    Departs: neither paper iterates GraSP on whole units; rounds and the images of a round are
    ours, so that it ends within a minute.
    """
    closed = partial(gates_of, given)
    return score_by_elimination(
        given.graph.widths, lambda alive: gradient_flow(given, closed(alive), IMAGES), ROUNDS
    )
