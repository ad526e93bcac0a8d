"""Prospect pruning (ProsPr, Alizadeh et al. 2022, arXiv:2202.08132)."""

from __future__ import annotations

import torch
from torch import Tensor

from mipp.criteria.shared.calibrated_steps import copied_buffers, loss_with, normalising_by_batch
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import images_in_batches
from mipp.criteria.shared.unit_gates import (
    Gates,
    gated,
    open_gates,
    parameters_of,
    tensors_of,
)
from mipp.selection.scores import GroupScores

STEPS = 3
BATCH = 64  # images of a step, and of the loss after the last one
RATE = 0.01


def score_prospr(given: CriterionInput) -> GroupScores:
    """Absolute derivative, by a gate on the unit, of the loss after a few steps of training.

    The gate multiplies the first weights; the steps that follow depend on it, and the
    derivative is taken through them. Every step, and the loss, has images of its own; where
    calibration has too few, they come round again.

    Departs: plain descent without momentum, at a rate that is
    safe for trained networks too.
    """
    gates = open_gates(given)
    with normalising_by_batch(given.model):
        slopes = torch.autograd.grad(
            loss_after_steps(given, gates), list(gates.values()), materialize_grads=True
        )
    return {
        name: slope.double().abs().cpu().numpy() for name, slope in zip(gates, slopes, strict=True)
    }


def loss_after_steps(given: CriterionInput, gates: Gates) -> Tensor:
    """The loss as a function of the gates on the first weights."""
    model = given.model
    batches = images_in_batches(given, (STEPS + 1) * BATCH, BATCH)
    fixed = tensors_of(model) | copied_buffers(model)
    first = gated(model, given.graph, gates, fixed)
    names = [*parameters_of(model)]
    weights = {
        name: first[name] + torch.zeros_like(first[name], requires_grad=True) for name in names
    }
    for step in range(STEPS):
        loss = loss_with(given, {**first, **weights}, *batches[step % len(batches)])
        slopes = torch.autograd.grad(
            loss, list(weights.values()), create_graph=True, materialize_grads=True
        )
        weights = {n: w - RATE * s for (n, w), s in zip(weights.items(), slopes, strict=True)}
    return loss_with(given, {**first, **weights}, *batches[STEPS % len(batches)])
