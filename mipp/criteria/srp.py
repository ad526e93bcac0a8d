"""Structure-regularised pruning (SRP, Zhang et al. 2022, ICLR: image super-resolution)."""

from __future__ import annotations

from functools import partial

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.driving import decay, score_by_driving
from mipp.criteria.shared.unit_gates import Tensors
from mipp.criteria.shared.unit_weights import Makers
from mipp.selection.scores import GroupScores


def score_srp(given: CriterionInput) -> GroupScores:
    """Order in which units leave when L2 drives the same channels of all coupled layers to zero.

    Layers that one residual stream ties together lose channels of the same indices, those that
    are smallest in the first of them by the L1 norm; the penalty grows for these channels in all
    of them, so that nothing is left that the sum could still carry. Norms are divided by their
    mean over the group.

    Source: eq. of the L2 penalty as in the authors' code, which aligns layers by the first one's
    indices. Departs: as `greg-1` does.
    """
    makers = Makers(given)
    return score_by_driving(given, partial(first_magnitudes, makers), partial(decay, makers))


def first_magnitudes(makers: Makers, weights: Tensors) -> GroupScores:
    """L1 norms in the first layer that makes a group."""
    return {
        name: first.rows(weights).detach().double().abs().sum(1).cpu().numpy()
        for name, (first, *_) in makers.slices.items()
    }
