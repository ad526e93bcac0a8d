"""GroupScores of criteria that give no number per unit, only an order in which units leave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def scores_of_order(leaving: Sequence[int]) -> npt.NDArray[np.float64]:
    """The share of the group's units that have left with each unit, in (0, 1].

    Ranked over the whole network, such scores take the same share from every group.

    Parameters
    ----------
    leaving : every channel of the group once, the first to leave first.
    """
    scores = np.empty(len(leaving))
    scores[np.asarray(leaving)] = (np.arange(len(leaving)) + 1) / len(leaving)
    return scores
