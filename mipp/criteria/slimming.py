"""Network slimming as published: batch-norm scales trained under L1 (Liu et al. 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mipp.criteria.bn_scale import score_bn_scale
from mipp.criteria.shared.calibrated_steps import Descent, Weights, train_copies
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.unit_gates import Tensors, gated
from mipp.criteria.shared.unit_weights import scales_of
from mipp.selection.scores import GroupScores

DESCENT = Descent()
SHRINK = 0.5  # of the mean factor, that a factor loses which the loss does not hold

FACTOR = "factor of "  # + group: of units without a batch norm


def score_slimming(given: CriterionInput) -> GroupScores:
    """Absolute batch-norm factor of a unit after training under L1, the mean over its norms.

    The penalty takes the same from every factor at each step, down to zero and no further
    (soft thresholding); the loss gives it back to those that it needs. A unit without a batch
    norm has the factor of one put behind its layer so that nothing changes (see `bn-scale`).

    Source: arXiv:1708.06519v1 eq. (1). Departs: trains for 4 passes over at most 1,024 images,
    not to the end; in all, half of the mean is taken: that of all batch norms together, and of
    each group without one.
    """
    trained = train_factors(given)
    scores = {}
    for name, group in given.graph.groups.items():
        own = [one.rows(trained) for one in scales_of(given, group)]
        own = own or [trained[FACTOR + name][:, None]]
        each = [rows.double().abs().mean(1) for rows in own]
        scores[name] = torch.stack(each).mean(0).cpu().numpy()
    return scores


def train_factors(given: CriterionInput) -> Weights:
    """Parameters after training, and with them the factors of units without a batch norm."""
    parameters = {name: value.detach() for name, value in given.model.named_parameters()}
    norms = [s.name for group in given.graph.groups.values() for s in scales_of(given, group)]
    norms = list(dict.fromkeys(norms))
    like = next(given.model.parameters())
    bare = {
        name: torch.from_numpy(first).to(like)
        for name, first in score_bn_scale(given).items()
        if not scales_of(given, given.graph.groups[name])
    }
    less = {FACTOR + name: float(first.mean()) for name, first in bare.items()}
    if norms:
        less |= dict.fromkeys(norms, float(torch.cat([parameters[n] for n in norms]).abs().mean()))
    spreads = {name: torch.where(first > 0, first, 1.0) for name, first in bare.items()}
    open_gates = {name: like.new_ones(width) for name, width in given.graph.widths.items()}

    def within(tensors: Tensors) -> Tensors:
        own = {n: 1 + (tensors[FACTOR + n] - bare[n]) / spreads[n] for n in bare}
        return gated(given.model, given.graph, open_gates | own, tensors)

    def after(weights: Weights, before: float, now: float) -> None:
        for name, mean in less.items():
            weights[name].copy_(F.softshrink(weights[name], SHRINK * mean * (now - before)))

    start = parameters | {FACTOR + name: first for name, first in bare.items()}
    return train_copies(given, DESCENT, start=start, within=within, after=after)
