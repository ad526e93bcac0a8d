"""Synaptic flow (Tanaka et al. 2020, arXiv:2006.05467)."""

from __future__ import annotations

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.elimination import Alive, score_by_elimination
from mipp.criteria.shared.filters import sum_over_filters, weight_names
from mipp.criteria.shared.unit_gates import differentiable, gated, gates_of, run_with, tensors_of
from mipp.inputs import Inputs, each, tensors_in
from mipp.selection.scores import GroupScores

ROUNDS = 100  # as in the paper


def score_synflow(given: CriterionInput) -> GroupScores:
    """Order in which units leave when those that carry the least synaptic flow go first.

    No data: the first calibration input gives the shape of an input of ones.

    Departs: whole units leave, by the sum of the scores of the weights that make them; biases
    and the means of batch norms are zero, as in the product of absolute weights that the paper
    starts from, so that the flow is conserved. The authors' code takes their absolute values.
    """
    return score_by_elimination(
        given.graph.widths, lambda alive: synaptic_flow(given, alive), ROUNDS
    )


def synaptic_flow(given: CriterionInput, alive: Alive) -> GroupScores:
    """Sum of weight times derivative of the summed outputs over the weights of a unit."""
    model = given.model
    tensors = {name: _linear(name, tensor) for name, tensor in tensors_of(model).items()}
    names = list(weight_names(model).values())
    weights = [tensors[name].requires_grad_(True) for name in names]
    gates = {name: gate.double() for name, gate in gates_of(given, alive).items()}
    ones = _ones(next(iter(given.inputs())))
    with differentiable(model):
        outputs = run_with(model, gated(model, given.graph, gates, tensors), ones)
        flow = torch.stack([tensor.sum() for tensor in tensors_in(outputs)]).sum()
        slopes = torch.autograd.grad(flow, weights, materialize_grads=True)
    products = [(w.detach() * s).abs() for w, s in zip(weights, slopes, strict=True)]
    return sum_over_filters(given, dict(zip(names, products, strict=True)))


def _linear(name: str, tensor: Tensor) -> Tensor:
    """A parameter or buffer of the network of absolute weights, in double precision."""
    if not tensor.is_floating_point():
        return tensor
    if name.endswith(("bias", "running_mean")):
        return torch.zeros_like(tensor, dtype=torch.float64)
    return tensor.double().abs()


def _ones(inputs: Inputs) -> Inputs:
    return each(inputs, lambda x: torch.ones_like(x[:1], dtype=torch.float64))
