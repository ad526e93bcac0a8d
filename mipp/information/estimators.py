"""The estimators by name: what each prepares from a pair's rows, keeps in a file and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mipp.config import EstimateConfig
from mipp.information import gaussian, moments, reconstruction
from mipp.information.gaussian.folds import FoldedInformation
from mipp.information.gaussian.state import PairState
from mipp.information.moments import Moments
from mipp.information.protocols import PairInformation, SampledInformation
from mipp.information.reconstruction.rows import pair_rows
from mipp.information.reconstruction.settings import ReconstructionSettings
from mipp.information.reconstruction.state import Reconstruction, ReconstructionState


@dataclass(frozen=True)
class PairData:
    """Rows of one pair, as chunks x (n, channels, block) and y (n, m) that can be read again.

    `sums` gives their moments, new ones at each call, where someone has added them up already.
    """

    name: str
    rows: int
    channels: int
    block: int
    chunks: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    sums: Callable[[], Moments] | None = None

    def moments(self) -> Moments:
        """Moments of all rows."""
        return self.sums() if self.sums else moments.stream(self.chunks(), "rows")

    def whole(self) -> tuple[Tensor, Tensor]:
        """All rows at once."""
        x, y = (torch.cat(parts) for parts in zip(*self.chunks(), strict=True))
        return x, y


class PairEstimate(Protocol):
    """What an estimator prepares once per pair."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything in it as named tensors, for a file."""


@dataclass(frozen=True)
class Estimator:
    """One way to measure information; the functions take the state that `prepare` gave.

    `answers` serves thresholds, `samples` a test of significance: its eliminations have
    independent estimates of what each channel adds.
    """

    prepare: Callable[[PairData, EstimateConfig, int], PairEstimate]
    restore: Callable[[Mapping[str, Tensor]], PairEstimate]
    answers: Callable[[Any, PairData, EstimateConfig, int], PairInformation]
    samples: Callable[[Any, PairData, EstimateConfig, int], SampledInformation]


def prepare_gaussian(data: PairData, config: EstimateConfig, seed: int) -> PairState:
    """The closed form's state of one pair: dual where rows are much fewer than features."""
    settings = {"ridge": config.ridge, "resolution": config.resolution}
    if gaussian.prefers_dual(data.rows, data.channels * data.block):
        x, y = data.whole()
        return gaussian.prepare_dual(x, y, data.channels, **settings)
    return gaussian.prepare(data.moments(), data.channels, overwrite=True, **settings)


def _folded(
    state: PairState, data: PairData, config: EstimateConfig, seed: int
) -> FoldedInformation:
    return FoldedInformation(state, data.whole, config.repeats, config.ridge, seed)


def prepare_reconstruction(
    data: PairData, config: EstimateConfig, seed: int
) -> ReconstructionState:
    """The paper's perceptrons of one pair, trained."""
    settings = _settings(config, seed)
    return reconstruction.prepare(pair_rows(*data.whole(), settings, data.name), settings)


def _settings(config: EstimateConfig, seed: int) -> ReconstructionSettings:
    shared = config.model_dump(exclude={"ridge"})
    return ReconstructionSettings(**shared, seed=seed)


def _reconstruction(
    state: ReconstructionState, data: PairData, config: EstimateConfig, seed: int
) -> Reconstruction:
    settings = _settings(config, seed)
    return Reconstruction(state, lambda: pair_rows(*data.whole(), settings, data.name), settings)


def _state_itself(state: PairState, *_: object) -> PairState:
    return state


ESTIMATORS: Mapping[str, Estimator] = {
    "gaussian": Estimator(prepare_gaussian, gaussian.from_tensors, _state_itself, _folded),
    "reconstruction": Estimator(
        prepare_reconstruction, reconstruction.from_tensors, _reconstruction, _reconstruction
    ),
}
