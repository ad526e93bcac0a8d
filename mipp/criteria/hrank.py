"""Mean rank of a unit's feature maps (HRank, Lin et al. 2020)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.maps import maps_by_group
from mipp.selection.scores import GroupScores

IMAGES = 512  # at most; the paper takes 500 and sees little change


def score_hrank(given: CriterionInput) -> GroupScores:
    """Mean rank of a unit's map over images, as a share of the largest that the map can have.

    The unit of a linear layer on one vector has a map of one pixel, whose rank is 1 where it is
    not zero: its score is the share of images that it is active on. See `maps_by_group` for
    what else a map is. Where an activation is never zero, as after GELU or in the only row of a
    map, ranks tie and the order says nothing.

    Source: arXiv:2002.10179v2 section 3.3, eq. (4). Departs: ranks are shares, so that layers
    with maps of different sizes compare (the paper gives every layer its own ratio; within a
    layer the order is the same), and of a group that several layers read they are averaged.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in given.graph.groups}
    for name, maps in maps_by_group(given, IMAGES):
        found[name].append(_shares(maps))
    return {
        name: torch.cat(shares).mean(0).cpu().numpy().astype(np.float64)
        for name, shares in found.items()
    }


def _shares(maps: Tensor) -> Tensor:
    """Rank of every map over its largest possible rank, (n, width)."""
    kind = torch.promote_types(maps.dtype, torch.float32)
    ranks: Tensor = torch.linalg.matrix_rank(maps.to(kind))
    return ranks.double() / min(maps.shape[2:])
