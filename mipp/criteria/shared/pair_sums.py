"""Moments of every layer pair, from the same sampled rows that information is estimated on."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mipp.activations import Sampling, capture_rows
from mipp.criteria.shared.criterion import CriterionInput
from mipp.information.moments import Moments, MomentSums, Scratch
from mipp.inputs import count
from mipp.settings import Mipp

ROWS = Mipp.rows


def sum_pairs(
    given: CriterionInput, sides: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> dict[str, Moments]:
    """Moments by pair of what `sides` makes of rows x (n, channels, block) and y (n, targets).

    About `ROWS` rows over all calibration images, at least one of each image.
    """
    images = sum(count(x) for x in given.inputs())
    sampling = Sampling(ROWS, images, given.seed)
    sums: dict[str, MomentSums] = {}
    scratch = Scratch()
    for batch in capture_rows(given.model, given.graph.pairs, given.inputs(), sampling):
        for name, (x, y) in batch.items():
            sums.setdefault(name, MomentSums("rows", scratch)).add(*sides(x, y))
    return {name: one.moments() for name, one in sums.items()}
