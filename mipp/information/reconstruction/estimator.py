"""The paper's perceptrons as an estimator: what a pair's file holds, and what answers from it."""

from __future__ import annotations

from dataclasses import asdict

from mipp.information import reconstruction
from mipp.information.estimators import Estimator, PairData
from mipp.information.reconstruction.rows import pair_rows
from mipp.information.reconstruction.settings import ReconstructionSettings
from mipp.information.reconstruction.state import ReconstructionInformation, ReconstructionState
from mipp.settings import Reconstruction


def prepare_reconstruction(
    data: PairData, settings: Reconstruction, seed: int
) -> ReconstructionState:
    """The paper's perceptrons of one pair, trained."""
    seeded = _seeded(settings, seed)
    return reconstruction.prepare(pair_rows(*data.whole(), seeded, data.name), seeded)


def _seeded(settings: Reconstruction, seed: int) -> ReconstructionSettings:
    return ReconstructionSettings(**asdict(settings), seed=seed)


def _answers(
    state: ReconstructionState, data: PairData, settings: Reconstruction, seed: int
) -> ReconstructionInformation:
    seeded = _seeded(settings, seed)
    return ReconstructionInformation(
        state, lambda: pair_rows(*data.whole(), seeded, data.name), seeded
    )


ESTIMATOR = Estimator(
    Reconstruction, prepare_reconstruction, reconstruction.from_tensors, _answers, _answers
)
