"""Units taken one by one for what they tell, less what those taken before tell about them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.order import scores_of_order
from mipp.criteria.shared.pair_sums import sum_pairs
from mipp.information.pairwise import pairwise_information
from mipp.selection.scores import GroupScores
from mipp.settings import Gaussian

SETTINGS = Gaussian()
Values = npt.NDArray[np.float64]
Discount = Callable[[Values, int], Values]  # redundancy with all taken, their number -> discount


def score_by_taking(given: CriterionInput, discount: Discount) -> GroupScores:
    """GroupScores by the order of taking, the first one highest.

    Information is Gaussian, at the resolution and on the rows that MIPP's closed form has by
    default; of a group that several layers read, relevance and redundancy are added up.
    """
    widths = given.graph.widths
    relevance = {name: np.zeros(width) for name, width in widths.items()}
    redundancy = {name: np.zeros((width, width)) for name, width in widths.items()}
    sums = sum_pairs(given, lambda x, y: (torch.cat([x.flatten(1), y], 1), y[:, :0]))
    for pair in given.graph.pairs:
        both = sums.pop(pair.name)
        channels = widths[pair.group]
        block = (len(both.xx) - pair.targets) // channels
        found = pairwise_information(
            both.xx / both.n,
            channels,
            block,
            ridge=SETTINGS.ridge,
            resolution=SETTINGS.resolution,
        )
        relevance[pair.group] += found.relevance.cpu().numpy()
        redundancy[pair.group] += found.redundancy.cpu().numpy()
    return {
        name: scores_of_order(taking_order(relevance[name], redundancy[name], discount)[::-1])
        for name in widths
    }


def taking_order(relevance: Values, redundancy: Values, discount: Discount) -> list[int]:
    """Channels in the order of taking: each time the one of most relevance less discount.

    Ties go to the lower index.
    """
    taken: list[int] = []
    shared = np.zeros_like(relevance)  # with all taken
    for _ in relevance:
        worth = relevance - discount(shared, len(taken))
        worth[taken] = -np.inf
        channel = int(np.argmax(worth))
        taken.append(channel)
        shared = shared + redundancy[channel]
    return taken
