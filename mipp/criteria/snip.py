"""Connection sensitivity of whole units (SNIP, Lee et al. 2019, arXiv:1810.02340)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import mean_over_images
from mipp.criteria.shared.unit_gates import (
    Gates,
    differentiable,
    gated,
    open_gates,
    run_with,
    tensors_of,
)
from mipp.inputs import Inputs
from mipp.selection.scores import GroupScores


def score_snip(given: CriterionInput) -> GroupScores:
    """Absolute derivative of the loss by a gate on the unit, where all gates are open.

    Departs: a gate belongs to a unit instead of a weight (the structured form of Verdenius et
    al. 2020, arXiv:2006.00896), all calibration images count instead of one batch, and scores
    are not divided by their sum, which changes no order.
    """
    return sensitivities(given, open_gates(given), None)


def sensitivities(given: CriterionInput, gates: Gates, images: int | None) -> GroupScores:
    """Absolute derivatives by the gates where they stand, over the first images; None: all."""
    model, tensors, by = given.model, tensors_of(given.model), list(gates.values())

    def slopes(inputs: Inputs, labels: Tensor) -> Sequence[Tensor]:
        outputs = run_with(model, gated(model, given.graph, gates, tensors), inputs)
        loss = given.summed_loss(outputs, labels)
        return torch.autograd.grad(loss, by, materialize_grads=True)

    with differentiable(model):
        found = mean_over_images(given, slopes, images)
    return {
        name: slope.double().abs().cpu().numpy() for name, slope in zip(gates, found, strict=True)
    }
