"""SNIP in rounds (de Jorge et al. 2021, arXiv:2006.09081; Verdenius et al. 2020)."""

from __future__ import annotations

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.elimination import Alive, score_by_elimination
from mipp.criteria.shared.unit_gates import gates_of
from mipp.criteria.snip import sensitivities
from mipp.selection.scores import GroupScores

ROUNDS = 20
IMAGES = 256


def score_snip_iterative(given: CriterionInput) -> GroupScores:
    """Order in which units leave when SNIP scores what is left anew in every round.

    Departs: units that left do not come back, as in Iter-SNIP of the first paper and SNAP-it of
    the second (arXiv:2006.00896), but rounds lead to one unit per group instead of a given size;
    every round sees the same first images.
    """

    def score(alive: Alive) -> GroupScores:
        gates = {name: gate.requires_grad_(True) for name, gate in gates_of(given, alive).items()}
        return sensitivities(given, gates, IMAGES)

    return score_by_elimination(given.graph.widths, score, ROUNDS)
