"""Channel independence (CHIP, Sui et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.maps import maps_by_group
from mipp.selection.scores import GroupScores

IMAGES = 128  # at most; the cost is one eigenproblem per image and unit


def score_chip(given: CriterionInput) -> GroupScores:
    """Nuclear norm that a layer's maps lose with a unit's, as a share of what they have.

    The maps of one image are the rows of a matrix (units, pixels). Units of one pixel, those of
    a linear layer on one vector, take images for pixels: the nuclear norm of a single column
    would know their size alone. See `maps_by_group` for what else a map is.

    Source: arXiv:2110.13981v2 section 3.2, eq. (5), one unit at a time, averaged over images.
    Departs: divided by the nuclear norm of the whole, so that layers compare (the paper gives
    every layer its own ratio; within a layer the order is the same); of a group that several
    layers read the changes are added up before.
    """
    lost = {name: torch.zeros(w, device="cpu").double() for name, w in given.graph.widths.items()}
    whole = dict.fromkeys(lost, 0.0)
    for name, maps in maps_by_group(given, IMAGES):
        rows = maps.flatten(2).double()  # (n, width, pixels)
        rows = rows.permute(2, 1, 0) if rows.shape[2] == 1 else rows
        for matrix in rows:
            norm, changes = _independence(matrix)
            whole[name] += norm
            lost[name] += changes.cpu()
    return {name: (values / (whole[name] or 1.0)).numpy() for name, values in lost.items()}


def _independence(rows: Tensor) -> tuple[float, Tensor]:
    """Nuclear norm of a matrix, and what it loses when each of its rows becomes zero."""
    count, pixels = rows.shape
    if count <= pixels:
        gram = rows @ rows.T
        others = 1 - torch.eye(count, dtype=rows.dtype, device=rows.device)
        without = gram * others[:, :, None] * others[:, None, :]
    else:
        gram = rows.T @ rows
        without = gram - rows[:, :, None] * rows[:, None, :]
    norm = _nuclear(gram)
    return float(norm), norm - _nuclear(without)


def _nuclear(gram: Tensor) -> Tensor:
    """Sum of the singular values of the matrix that a Gram matrix is of."""
    squares: Tensor = torch.linalg.eigvalsh(gram)
    return squares.clamp_min(0).sqrt().sum(-1)
