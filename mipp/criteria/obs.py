"""Optimal brain surgeon for whole units, by the exact Hessian (Hassibi and Stork 1993)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.surgeon import Surgeon, inverse_of
from mipp.criteria.shared.unit_weights import Makers
from mipp.criteria.shared.weight_loss import WeightLoss
from mipp.errors import DataError
from mipp.selection.scores import GroupScores

IMAGES = 256
WEIGHTS = 3000  # the Hessian takes a pass for each, and its inverse their cube
FLOOR = 1e-3  # of the mean absolute eigenvalue; a network between minima curves down, too
Blocks = Mapping[str, list[Tensor]]  # group -> of each unit, where its weights lie in all of them


def score_obs(given: CriterionInput) -> GroupScores:
    """Rise of the loss, to second order, up to when the unit leaves.

    The unit whose weights are missed least leaves, all others are refined to make up for it, and
    so on down to one unit per group. Scores are the sum of the rises until then.

    Source: Hassibi and Stork 1993, eq. (5), with all weights that make a unit at once. Departs: the
    refined weights decide which unit leaves next, and are left to the refit in the end; eigenvalues
    below a floor are raised to it, as the network need not be at a minimum.

    Raises
    ------
    DataError : the network has more than 3,000 weights.
    """
    loss = WeightLoss(given, images=IMAGES)
    _require_few(given, loss.weights)
    inverse = inverse_of(loss.hessian(), FLOOR)
    weights = torch.cat([w.detach().double().flatten() for w in loss.weights.values()])
    return rises_until(Surgeon(weights, inverse), _blocks(given, loss.weights))


def rises_until(surgeon: Surgeon, blocks: Blocks) -> GroupScores:
    """What the quadratic has risen by when each unit leaves, the one of least rise first."""
    scores = {name: np.zeros(len(units)) for name, units in blocks.items()}
    left = {name: list(range(len(units))) for name, units in blocks.items()}
    total = 0.0
    while any(len(units) > 1 for units in left.values()):
        rises = {
            (name, unit): surgeon.rise(blocks[name][unit])
            for name, units in left.items()
            for unit in units
            if len(units) > 1
        }
        name, unit = min(rises, key=lambda each: rises[each])
        total += rises[name, unit]
        scores[name][unit] = total
        surgeon.remove(blocks[name][unit])
        left[name].remove(unit)
    for name, units in left.items():
        for unit in units:
            scores[name][unit] = total + surgeon.rise(blocks[name][unit])
    return scores


def _blocks(given: CriterionInput, weights: Mapping[str, Tensor]) -> Blocks:
    places, start = {}, 0
    for name, weight in weights.items():
        stop = start + weight.numel()
        places[name] = torch.arange(start, stop, device=weight.device).view(weight.shape)
        start = stop
    blocks = {}
    for name, slices in Makers(given).slices.items():
        blocks[name] = list(torch.cat([one.rows(places) for one in slices], 1))
    return blocks


def _require_few(given: CriterionInput, weights: Mapping[str, Tensor]) -> None:
    count = sum(weight.numel() for weight in weights.values())
    if count > WEIGHTS:
        raise DataError(
            f"obs holds the whole Hessian of {type(given.model).__name__}.\nExpected at most "
            f"{WEIGHTS:,} weights, got {count:,}; take woodfisher or eigendamage, which hold it "
            "layer by layer."
        )
