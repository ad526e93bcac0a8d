"""LASSO on channel contributions (He, Zhang and Sun 2017, arXiv:1707.06168v2)."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from mipp.criteria.shared.contributions import Gram, contribution_grams
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.order import scores_of_order
from mipp.errors import ScoreError
from mipp.selection.scores import GroupScores


def score_he2017(given: CriterionInput) -> GroupScores:
    """Order in which channels leave along the LASSO path of the next layer's outputs.

    Every channel's contribution has a factor; the penalty on the factors grows from 0, and a
    channel has left when its factor stays 0. The least squares that follow in the paper are
    `prune.refit`.

    Source: section 3.1, eq. (2) and (3). Departs: the path is followed exactly (LARS, Efron et
    al. 2004) instead of by trial penalties, and of a group that several layers read their
    errors are added up.
    """
    grams = contribution_grams(given)
    return {name: scores_of_order(leaving_order(gram)) for name, gram in grams.items()}


def leaving_order(gram: Gram) -> list[int]:
    """Channels by the penalty from which on their factor is 0, from the products of theirs.

    Channels that the path never reaches, being nothing but copies of others, leave first, those
    of the least contribution before the others.
    """
    if not np.isfinite(gram).all():
        raise ScoreError(
            "contributions of channels are too large to be multiplied.\nExpected finite products, "
            f"got {int((~np.isfinite(gram)).sum())} others in {gram.size}; bring the weights and "
            "inputs to usual scales."
        )
    wanted = gram.sum(1)  # products with the sum of all contributions, which is to be kept
    penalties, factors = _path(gram, wanted)
    present = factors != 0  # (channels, knots), the largest penalty first
    first = np.where(present.any(1), present.argmax(1), len(penalties))
    return [int(c) for c in np.lexsort((np.arange(len(gram)), gram.diagonal(), -first))]


def _path(
    gram: Gram, wanted: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    # a second of import, which other methods should not pay
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram

    scale = float(gram.diagonal().mean()) or 1.0
    with warnings.catch_warnings():  # of copies, which stay out of the path
        warnings.simplefilter("ignore", ConvergenceWarning)
        penalties, _, factors = lars_path_gram(
            wanted / scale, gram / scale, n_samples=1, method="lasso", alpha_min=0
        )
    return penalties, factors
