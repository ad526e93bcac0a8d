"""Variational pruning: a distribution over each unit's scale (Zhao et al. 2019, CVPR)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.calibrated_steps import Descent, Weights, train_copies
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import labelled_images
from mipp.criteria.shared.unit_gates import Tensors, gated
from mipp.inputs import count
from mipp.selection.scores import GroupScores

DESCENT = Descent()
DEVIATION = 0.1  # of the scales before training, whose mean is 1
MEAN, SPREAD = 0.02, 0.01  # below both, a unit is redundant

CENTRE, WIDTH = "mean of ", "log deviation of "  # + group


def score_variational(given: CriterionInput) -> GroupScores:
    """How far a unit's scale is from zero, by its mean or its deviation, after training.

    Every unit has a scale where layers read it, normal with a mean and a deviation of its own,
    drawn anew for every batch. Beside the loss, training lowers the divergence from a normal
    about zero of the same deviation, half of (mean / deviation) squared, over the number of images.
    A unit is redundant when both lie below their thresholds; the score is the larger of
    both over its threshold.

    Source: doi:10.1109/cvpr.2019.00289. Departs: trains for 4 passes over at most 1,024
    images; the scale multiplies the unit where layers read it, after the nonlinearity.
    """
    trained = train_scales(given)
    scores = {}
    for name in given.graph.groups:
        mean, log = trained[CENTRE + name].double(), trained[WIDTH + name].double()
        scores[name] = torch.maximum(mean.abs() / MEAN, log.exp() / SPREAD).cpu().numpy()
    return scores


def train_scales(given: CriterionInput) -> Weights:
    """Parameters after training, with the mean and the log of the deviation of every scale."""
    like = next(given.model.parameters())
    draws = torch.Generator().manual_seed(given.seed)
    images = sum(count(inputs) for inputs, _ in labelled_images(given, DESCENT.images))
    start = {name: value.detach() for name, value in given.model.named_parameters()}
    for name, width in given.graph.widths.items():
        start[CENTRE + name] = like.new_ones(width)
        start[WIDTH + name] = like.new_full((width,), np.log(DEVIATION))

    def within(tensors: Tensors) -> Tensors:
        scales = {}
        for name, width in given.graph.widths.items():
            noise = torch.randn(width, generator=draws, device="cpu").to(like)
            scales[name] = tensors[CENTRE + name] + tensors[WIDTH + name].exp() * noise
        return gated(given.model, given.graph, scales, tensors)

    def penalty(weights: Weights) -> Tensor:
        every = torch.stack([divergence(weights, name) for name in given.graph.groups])
        return every.sum() / images

    return train_copies(given, DESCENT, start=start, within=within, penalty=penalty)


def divergence(weights: Tensors, group: str) -> Tensor:
    """Kullback-Leibler divergence of a group's scales from normals about zero, in nats."""
    return (weights[CENTRE + group] / weights[WIDTH + group].exp()).square().sum() / 2
