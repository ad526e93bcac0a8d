"""The closed form as an estimator: what a pair's file holds, and what answers from it."""

from __future__ import annotations

from mipp.information import gaussian
from mipp.information.estimators import Estimator, PairData
from mipp.information.gaussian.folds import FoldedInformation
from mipp.information.gaussian.state import PairState
from mipp.settings import Gaussian


def prepare_gaussian(data: PairData, settings: Gaussian, seed: int) -> PairState:
    """The closed form's state of one pair: dual where rows are much fewer than features."""
    shared = {"ridge": settings.ridge, "resolution": settings.resolution}
    if gaussian.prefers_dual(data.rows, data.channels * data.block):
        x, y = data.whole()
        return gaussian.prepare_dual(x, y, data.channels, **shared)
    return gaussian.prepare(data.moments(), data.channels, overwrite=True, **shared)


def _folded(state: PairState, data: PairData, settings: Gaussian, seed: int) -> FoldedInformation:
    return FoldedInformation(state, data.whole, settings.repeats, settings.ridge, seed)


def _state_itself(state: PairState, *_: object) -> PairState:
    return state


ESTIMATOR = Estimator(Gaussian, prepare_gaussian, gaussian.from_tensors, _state_itself, _folded)
