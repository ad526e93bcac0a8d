"""Iterative magnitude pruning with rewinding (Frankle and Carbin 2019, arXiv:1803.03635)."""

from __future__ import annotations

import torch
from torch import Tensor

from mipp.criteria.shared.calibrated_steps import copied_buffers, loss_with, normalising_by_batch
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.elimination import Alive, score_by_elimination
from mipp.criteria.shared.filters import sum_over_filters, weight_names
from mipp.criteria.shared.samples import images_in_batches
from mipp.criteria.shared.unit_gates import gated, gates_of, tensors_of
from mipp.selection.scores import GroupScores

ROUNDS = 10
PASSES = 1
IMAGES = 512
BATCH = 64
RATE = 0.01
MOMENTUM = 0.9


def score_imp(given: CriterionInput) -> GroupScores:
    """Order in which units leave when every round trains what is left and drops small weights.

    After each round the weights are again those of the network given (rewinding). A unit's
    magnitude is the sum of its absolute incoming weights, divided by the mean of those
    that are left in its group.

    Departs: a round trains for `PASSES` over the first `IMAGES` calibration images, where the
    paper trains to the end on all data; units leave instead of weights.
    """

    def score(alive: Alive) -> GroupScores:
        trained = train_gated(given, alive)
        names = weight_names(given.model).values()
        sums = sum_over_filters(given, {name: trained[name].abs() for name in names})
        return {name: v / (v[alive[name]].mean() or 1.0) for name, v in sums.items()}

    return score_by_elimination(given.graph.widths, score, ROUNDS)


def train_gated(given: CriterionInput, alive: Alive) -> dict[str, Tensor]:
    """Parameters after training from the given ones, with the units that left gated off."""
    model, gates = given.model, gates_of(given, alive)
    fixed = tensors_of(model) | copied_buffers(model)
    weights = {
        name: fixed[name].clone().requires_grad_(True) for name, _ in model.named_parameters()
    }
    optimiser = torch.optim.SGD(list(weights.values()), lr=RATE, momentum=MOMENTUM)
    batches = images_in_batches(given, IMAGES, BATCH)
    with normalising_by_batch(model):
        for inputs, labels in batches * PASSES:
            tensors = gated(model, given.graph, gates, fixed | weights)
            optimiser.zero_grad()
            loss_with(given, tensors, inputs, labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return {name: weight.detach() for name, weight in weights.items()}
