"""Coarse-to-fine layer-wise pruning (ECoFLaP, Sung et al. 2024, arXiv:2310.02998)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mipp.activations import capture_whole
from mipp.criteria.shared.criterion import CriterionInput, sum_over_producers
from mipp.criteria.shared.filters import weight_names
from mipp.criteria.shared.samples import first_inputs, minibatches
from mipp.criteria.shared.unit_gates import Tensors, run_with, tensors_of, tied_names
from mipp.criteria.shared.unit_weights import Slice, made_by
from mipp.evaluation import evaluating
from mipp.layers import Layer, layer_at
from mipp.selection.scores import GroupScores

IMAGES = 32  # each with a perturbation of its own
STEP = 1e-3  # standard deviation of a weight's perturbation
READ = 128  # images whose inputs to layers are measured
TOGETHER = 32  # of them at once
SAFE = 0.2  # of a group's units, which leave last; the authors' code removes 0.8 of a layer at most

Values = npt.NDArray[np.float64]


def score_ecoflap(given: CriterionInput) -> GroupScores:
    """How early a unit is kept: its group's importance says how many are, Wanda's score which.

    Coarse: the norm of the loss's gradient by the weights that make a group, estimated from
    forward passes alone. As the budget grows, groups get weights in proportion to it. Fine: the sum
    over a unit's weights of |weight| times the norm of the input that it reads.

    Source: arXiv:2310.02998, and the authors' code for the ratios. Departs: whole units instead of
    single weights; ratios of every budget from one estimate, with a fifth of each group left for
    the last, where the code fixes the largest ratio by the budget.
    """
    slices = {name: made_by(given, group) for name, group in given.graph.groups.items()}
    norms = gradient_norms(given, slices)
    tensors = tensors_of(given.model)
    sizes = {name: sum(s.rows(tensors).shape[1] for s in each) for name, each in slices.items()}
    return allotted(wanda_sums(given), norms, sizes)


def gradient_norms(
    given: CriterionInput, slices: Mapping[str, Sequence[Slice]]
) -> dict[str, float]:
    """Norm of the loss's gradient by the weights of each group, the mean over images.

    Along normal z the change of the loss per step is normal with the gradient's norm for a
    deviation, so that its absolute value is sqrt(2 / pi) of the norm in the mean.
    """
    tensors, tied = tensors_of(given.model), tied_names(given.model)
    images = [part for (part,) in islice(minibatches(given, 1), IMAGES)]
    generator = torch.Generator().manual_seed(given.seed)
    norms = {}
    with evaluating(given.model), torch.no_grad():
        for name, each in slices.items():
            slopes = []
            for inputs, labels in images:
                noise = _noise(each, tensors, generator)
                losses = []
                for step in (STEP, -STEP):
                    moved = {key: tensors[key] + step * along for key, along in noise.items()}
                    moved |= {key: moved[first] for key, first in tied.items() if first in moved}
                    outputs = run_with(given.model, {**tensors, **moved}, inputs)
                    losses.append(float(given.mean_loss(outputs, labels)))
                slopes.append(abs(losses[0] - losses[1]) / (2 * STEP))
            norms[name] = math.sqrt(math.pi / 2) * float(np.mean(slopes))
    return norms


def _noise(
    slices: Sequence[Slice], tensors: Tensors, generator: torch.Generator
) -> dict[str, Tensor]:
    """Normal numbers in place of the weights that make a group, 0 beside them."""
    noise = {one.name: torch.zeros_like(tensors[one.name]) for one in slices}
    for one in slices:
        shape = one.rows(tensors).shape
        drawn = torch.randn(shape, generator=generator, device="cpu")
        one.write(noise, drawn.to(tensors[one.name]))
    return noise


def wanda_sums(given: CriterionInput) -> GroupScores:
    """Per unit, |weight| times the norm of what it reads over images and places, summed."""
    made = {m.module for group in given.graph.groups.values() for m in group.producers}
    layers = {n: layer_at(given.model, n) for n in weight_names(given.model) if n in made}
    squares = dict.fromkeys(layers, torch.zeros((), dtype=torch.float64, device="cpu"))
    batches = first_inputs(given, READ, TOGETHER)
    for read in capture_whole(given.model, [*layers], "inputs", batches):
        for name, calls in read.items():
            for x in calls:
                rows = x.double().movedim(layers[name].axis_of(x.shape), -1).flatten(0, -2)
                squares[name] = squares[name].to(rows.device) + rows.square().sum(0)
    sums = {layer.module: _by_output(layer, squares[name].sqrt()) for name, layer in layers.items()}

    def per_output(module: nn.Module) -> Tensor | None:
        return sums.get(module)

    return {
        name: sum_over_producers(group, given.model, per_output)
        for name, group in given.graph.groups.items()
    }


def _by_output(layer: Layer, norms: Tensor) -> Tensor:
    """Sum of |weight| times norm over what each output reads; bare where the map is not known."""
    linear = layer.map
    if linear is None or norms.ndim == 0:
        assert layer.filters is not None
        return layer.by_output(getattr(layer.module, layer.filters).detach().abs()).sum(1)
    return linear.weight.detach().double().abs().sum(2) @ norms


def allotted(
    local: GroupScores, importance: Mapping[str, float], sizes: Mapping[str, int]
) -> GroupScores:
    """Scores whose order keeps the locally best of each group, weights by its importance.

    Of 10 units with 4 weights each, 2 are safe: above 1. With half of all importance, the third is
    there once 8 weights are kept beyond those that are safe, the next one with 16: the score falls
    with that number.

    Parameters
    ----------
    sizes : weights of one unit, by group.
    """
    least = 1e-12 * max(importance.values(), default=0.0) or 1.0
    shares = {name: max(value, least) for name, value in importance.items()}
    whole = sum(shares.values())
    total = sum(len(values) * max(sizes[name], 1) for name, values in local.items())
    scores = {}
    for name, values in local.items():
        safe = math.ceil(SAFE * len(values))
        beyond = np.arange(1, len(values) + 1) - safe  # places after the safe ones
        weights = beyond * max(sizes[name], 1) * whole / shares[name]
        scores[name] = np.empty(len(values))
        scores[name][np.argsort(-values, kind="stable")] = np.where(
            beyond > 0, total / (total + weights.clip(min=0)), 1 + (1 - beyond) / safe
        )
    return scores
