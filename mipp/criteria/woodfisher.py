"""Optimal brain surgeon with the Fisher information's inverse (WoodFisher, arXiv:2004.14340)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.image_slopes import slopes_by_layer
from mipp.criteria.shared.unit_gates import parameters_of
from mipp.criteria.shared.unit_weights import Makers
from mipp.selection.scores import GroupScores

IMAGES = 256  # each has a backward pass of its own, and a row of every layer's Fisher information
DAMPING = 1e-3  # of the mean of the diagonal


def score_woodfisher(given: CriterionInput) -> GroupScores:
    """Rise of the loss, to second order, once the layer's other weights have made up for a unit's.

    The Hessian is the mean outer product of single images' gradients, one block for each layer;
    of a unit that several layers make, the rises are added up.

    Source: Singh and Alistarh 2020, eqs. (2) and (12), for a unit's weights together (Hassibi and
    Stork 1993 with a block for a weight). Departs: the inverse is one of images by images, which is
    the same; the weights that make up for a unit are left to the refit; the damping goes by the
    layer's own diagonal.

    Raises
    ------
    DataError : the gradients of all images do not fit the memory.
    """
    makers = Makers(given)
    parameters = parameters_of(given.model)
    names = sorted({one.name for slices in makers.slices.values() for one in slices})
    scores = {name: np.zeros(width) for name, width in given.graph.widths.items()}
    for name, gradients in slopes_by_layer(given, names, IMAGES, "woodfisher"):
        gram, damping = _gram(gradients.flatten(1))
        for group, slices in makers.slices.items():
            for one in (s for s in slices if s.name == name):
                weights = one.rows({name: parameters[name].detach()}).double()
                of_units = torch.stack([one.rows({name: row}) for row in gradients], 1)
                rises = [
                    rise(unit, rows, gram, damping)
                    for unit, rows in zip(weights, of_units, strict=True)
                ]
                scores[group] += torch.stack(rises).cpu().numpy()
    return scores


def rise(weights: Tensor, gradients: Tensor, gram: Tensor, damping: float) -> Tensor:
    """w' ((F^-1)_BB)^-1 w / 2: what the quadratic of F rises by at the best of w = 0 in block B.

    By Woodbury's identity, with the gradients of all other weights in place of F's inverse.

    Parameters
    ----------
    weights : (b,) of the unit.
    gradients : (n, b) of n images, by these weights.
    gram : (n, n) of their gradients by all weights of the layer.
    damping : added to F = G'G / n.
    """
    n = len(gram)
    along = gradients @ weights  # (n,)
    others = gram - gradients @ gradients.T
    others.diagonal().add_(n * damping)
    made_up: Tensor = weights @ weights + along @ torch.linalg.solve(others, along)
    return damping * made_up / 2


def _gram(gradients: Tensor) -> tuple[Tensor, float]:
    """Products of all images' gradients (n, n), and the damping of the layer."""
    n, size = gradients.shape
    gram = gradients @ gradients.T
    mean = float(gram.diagonal().sum()) / (n * size)
    return gram, DAMPING * mean or DAMPING
