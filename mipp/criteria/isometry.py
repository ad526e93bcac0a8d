"""Connection sensitivity under layerwise dynamical isometry (Lee et al. 2020, arXiv:1906.06307)."""

from __future__ import annotations

import torch
from torch import Tensor

from mipp.criteria.shared.calibrated_steps import copied_buffers, loss_with, normalising_by_batch
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.filters import weight_names
from mipp.criteria.shared.samples import images_in_batches
from mipp.criteria.shared.unit_gates import gated, open_gates, tensors_of
from mipp.layers import layer_at
from mipp.selection.scores import GroupScores

IMAGES = 512
BATCH = 64


def score_isometry(given: CriterionInput) -> GroupScores:
    """Absolute derivative of the loss by a gate on the unit, in a network of orthonormal filters.

    Every layer's weights are first replaced by the nearest ones whose singular values are all 1, so
    that signals pass with their lengths and sensitivities of layers at any depth compare. Batch
    norms go by the batch, as their statistics belong to the weights that were given.

    Source: arXiv:1906.06307v2 (layerwise dynamical isometry). Departs: the weights nearest to
    the given ones instead of ones drawn at random, a gate on each unit instead of each weight,
    and what is left is not made orthonormal again once units are gone.
    """
    tensors = tensors_of(given.model) | copied_buffers(given.model) | orthonormal(given)
    gates = open_gates(given)
    by, total = list(gates.values()), {name: torch.zeros_like(g) for name, g in gates.items()}
    with normalising_by_batch(given.model):
        for inputs, labels in images_in_batches(given, IMAGES, BATCH):
            own = gated(given.model, given.graph, gates, tensors)
            loss = loss_with(given, own, inputs, labels) * len(labels)
            slopes = torch.autograd.grad(loss, by, materialize_grads=True)
            for name, slope in zip(total, slopes, strict=True):
                total[name] += slope
    return {name: slope.detach().double().abs().cpu().numpy() for name, slope in total.items()}


def orthonormal(given: CriterionInput) -> dict[str, Tensor]:
    """By full name, every layer's weights with all singular values at 1.

    Rows are filters; what each part of a grouped convolution makes is a matrix of its own.
    """
    found = {}
    for module, name in weight_names(given.model).items():
        layer = layer_at(given.model, module)
        assert layer.filters is not None
        weight = given.model.get_parameter(name).detach()
        axis = layer.outputs.tensors[layer.filters]
        parts = 1 if layer.map is None else layer.map.parts
        filters = weight.movedim(axis, 0)
        matrices = filters.reshape(parts, len(filters) // parts, -1)
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        found[name] = (left @ right).reshape(filters.shape).movedim(0, axis)
    return found
