"""First-order Taylor expansion on feature maps (Molchanov et al. 2017, arXiv:1611.06440)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.image_gates import slopes_by_image
from mipp.criteria.shared.samples import mean_over_images
from mipp.criteria.shared.unit_gates import differentiable
from mipp.inputs import Inputs
from mipp.selection.scores import GroupScores


def score_taylor_2017(given: CriterionInput) -> GroupScores:
    """Mean over images of |feature map . gradient|, divided by the l2 norm over the group.

    The map is what layers read, after the norm and the nonlinearity; products are summed over
    its positions and, of a group that several layers read, over these.

    Departs: the mean over positions is a sum, the same
    after the division; units do not leave a few at a time with training between.
    """

    def sums(inputs: Inputs, labels: Tensor) -> Sequence[Tensor]:
        return [slope.abs().sum(0) for slope in slopes_by_image(given, inputs, labels)]

    with differentiable(given.model):
        means = mean_over_images(given, sums)
    return {
        name: (mean / mean.norm().clamp_min(torch.finfo(torch.float64).tiny)).cpu().numpy()
        for name, mean in zip(given.graph.groups, means, strict=True)
    }
