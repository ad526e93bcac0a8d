"""Curvature that is diagonal in a Kronecker-factored eigenbasis (EigenDamage, arXiv:1905.05934)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.image_slopes import slopes_by_layer
from mipp.criteria.shared.unit_gates import parameters_of
from mipp.criteria.shared.unit_weights import Makers
from mipp.selection.scores import GroupScores

IMAGES = 256
DAMPING = 1e-3  # of the layer's mean curvature


def score_eigendamage(given: CriterionInput) -> GroupScores:
    """Rise of the loss, to second order, once the layer's other weights have made up for a unit's.

    The Fisher information of a layer is taken to be diagonal in the product of two bases, of its
    outputs and of its inputs, with the mean squared gradients there for a diagonal. Of a unit that
    several layers make, the rises are added up.

    Source: Wang et al. 2019, sections 4.1 and 4.2. Departs: units leave, not directions of the
    rotated basis, which would leave two more layers for each; a unit has the rise of its best
    removal in that curvature. The bases are those of the gradients' second moments over either
    side, G G' and G' G, which under the independence that K-FAC supposes are K-FAC's.

    Raises
    ------
    DataError : the gradients of all images do not fit the memory.
    """
    makers, parameters = Makers(given), parameters_of(given.model)
    by_layer = [(one, group) for group, slices in makers.slices.items() for one in slices]
    names = sorted({one.name for one, _ in by_layer})
    scores = {name: np.zeros(width) for name, width in given.graph.widths.items()}
    for name, slopes in slopes_by_layer(given, names, IMAGES, "eigendamage"):
        for axis in sorted({one.axis for one, _ in by_layer if one.name == name}):
            weight = parameters[name].detach().double().movedim(axis, 0).flatten(1)
            left, right, bent = rotated(slopes.movedim(axis + 1, 1).flatten(2))
            for one, group in by_layer:
                if one.name == name and one.axis == axis:
                    features = torch.from_numpy(one.features).to(weight.device)
                    rises = [rise(weight[f] @ right, left[f], bent) for f in features]
                    scores[group] += torch.stack(rises).cpu().numpy()
    return scores


def rotated(slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bases of outputs (o, o) and inputs (i, i), and the curvature (o, i) along them.

    Parameters
    ----------
    slopes : (n, o, i), gradients of n images by a layer's weights.
    """
    _, left = torch.linalg.eigh(torch.einsum("noi,npi->op", slopes, slopes))
    _, right = torch.linalg.eigh(torch.einsum("noi,noj->ij", slopes, slopes))
    bent = (left.T @ slopes @ right).square().mean(0)
    return left, right, bent + (DAMPING * float(bent.mean()) or DAMPING)


def rise(along: Tensor, left: Tensor, bent: Tensor) -> Tensor:
    """w' ((F^-1)_BB)^-1 w / 2 of the weights of a unit's rows, () of any number of them.

    F^-1 has between rows p and q, along input direction l, the sum over i of
    left[p, i] left[q, i] / bent[i, l]: a small matrix for each l, and none between two of these.

    Parameters
    ----------
    along : (b, i), the rows, along the inputs' directions.
    left : (b, o), the same rows of the outputs' basis.
    bent : (o, i), the curvature along both.
    """
    inverse = torch.einsum("po,qo,oi->ipq", left, left, 1 / bent)
    made_up = torch.linalg.solve(inverse, along.T[..., None])[..., 0]  # (i, b)
    rises: Tensor = (along.T * made_up).sum() / 2
    return rises
