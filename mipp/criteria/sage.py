"""Shapley values of a unit's information (SAGE, Covert et al. 2020, arXiv:2004.00668)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.pair_sums import sum_pairs
from mipp.information import gaussian
from mipp.information.shapley import gains, shapley_values
from mipp.selection.scores import GroupScores
from mipp.settings import Gaussian

SETTINGS = Gaussian()
ORDERS = 16  # each both ways; every one asks about each unit of a group once


def score_sage(given: CriterionInput) -> GroupScores:
    """Nats about the next layers that a unit adds to others, the mean over orders of them.

    Information is that of MIPP's closed form by default, on the same rows; of a group that several
    layers read it is added up. The values of a group add up to what all its units tell.

    Source: see `mipp.information.shapley`. Departs: the target is the next layer, not the label.
    """
    sums = sum_pairs(given, lambda x, y: (x.flatten(1), y))
    generator = torch.Generator().manual_seed(given.seed)
    scores = {}
    for name, width in given.graph.widths.items():
        states = []
        for pair in given.graph.pairs_of(name):
            shared = {"ridge": SETTINGS.ridge, "resolution": SETTINGS.resolution}
            states.append(gaussian.prepare(sums.pop(pair.name), width, overwrite=True, **shared))

        def gains_in(order: Sequence[int], states: list[gaussian.PairState] = states) -> Tensor:
            each = [gains(one, torch.arange(len(one.variance)), order) for one in states]
            return torch.stack(each).sum(0)

        scores[name] = shapley_values(gains_in, width, generator, ORDERS).values.numpy()
    return scores
