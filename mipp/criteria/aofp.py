"""Approximated oracle filter pruning (AOFP, Ding et al. 2019, arXiv:1905.04748)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mipp.criteria.shared.contributions import Gram, contribution_grams
from mipp.criteria.shared.criterion import CriterionInput
from mipp.selection.scores import GroupScores

Values = npt.NDArray[np.float64]


def score_aofp(given: CriterionInput) -> GroupScores:
    """Damage to the next layer with which a unit leaves, found by binary filter search.

    Damage is the squared change of what the next layers make of a masked group, over the square of
    what they make of all units that are left. Half of the search space is masked at random, and a
    unit is charged with the mean damage of the masks that it is in; the half with the least
    charges is the next search space, until one unit is left, which leaves. The score is the
    largest damage so far, so that one threshold for the whole network decides the widths.

    Source: arXiv:1905.04748v1 section 3 (damage isolation, binary filter search). Departs: the mean
    is over all masks, in closed form, where the paper draws some and trains meanwhile; units
    leave one at a time; what the next layers make is taken before their norm and nonlinearity.
    """
    return {name: _scores(gram) for name, gram in contribution_grams(given).items()}


def _scores(gram: Gram) -> Values:
    scores, highest = np.empty(len(gram)), 0.0
    left = list(range(len(gram)))
    for position in range(len(gram)):
        unit = search(gram, left)
        whole = float(gram[np.ix_(left, left)].sum())
        highest = max(highest, float(gram[unit, unit]) / whole if whole > 0 else 0.0)
        scores[unit] = highest * (1 + 1e-9 * position)  # units that tie keep their order
        left.remove(unit)
    return scores


def search(gram: Gram, left: list[int]) -> int:
    """The unit that binary search arrives at, of those that are left."""
    space = np.asarray(left)
    while len(space) > 1:
        masked = len(space) // 2
        charges = mean_damage(gram[np.ix_(space, space)], masked)
        space = space[np.sort(np.argsort(charges, kind="stable")[:masked])]
    return int(space[0])


def mean_damage(gram: Gram, masked: int) -> Values:
    """Mean damage over all masks of so many units that a unit is in, (units,).

    Parameters
    ----------
    gram : products of the units' contributions, whose sum over a mask is its damage.
    """
    units = len(gram)
    own = gram.diagonal()
    beside = gram.sum(1) - own  # products with each other unit, of which a mask has some
    others = own.sum() - own
    pairs = gram.sum() - own.sum() - 2 * beside  # products of two others with one another
    one = (masked - 1) / (units - 1) if units > 1 else 0.0
    two = one * (masked - 2) / (units - 2) if units > 2 else 0.0
    return np.asarray(own + one * (2 * beside + others) + two * pairs)
