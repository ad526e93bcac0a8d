"""The estimators by name: what each prepares from a pair's rows, keeps in a file and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mipp.errors import ConfigError, did_you_mean, option
from mipp.information import gaussian, moments, reconstruction
from mipp.information.gaussian.folds import FoldedInformation
from mipp.information.gaussian.state import PairState
from mipp.information.moments import Moments
from mipp.information.protocols import PairInformation, SampledInformation
from mipp.information.reconstruction.rows import pair_rows
from mipp.information.reconstruction.settings import ReconstructionSettings
from mipp.information.reconstruction.state import ReconstructionInformation, ReconstructionState
from mipp.settings import Gaussian, Reconstruction


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

    `settings` is the type of its own settings. `answers` serves thresholds, `samples` a test of
    significance: its eliminations have independent estimates of what each channel adds.
    """

    settings: type[Any]
    prepare: Callable[[PairData, Any, int], PairEstimate]
    restore: Callable[[Mapping[str, Tensor]], PairEstimate]
    answers: Callable[[Any, PairData, Any, int], PairInformation]
    samples: Callable[[Any, PairData, Any, int], SampledInformation]


def prepare_gaussian(data: PairData, settings: Gaussian, seed: int) -> PairState:
    """The closed form's state of one pair: dual where rows are much fewer than features."""
    shared = {"ridge": settings.ridge, "resolution": settings.resolution}
    if gaussian.prefers_dual(data.rows, data.channels * data.block):
        x, y = data.whole()
        return gaussian.prepare_dual(x, y, data.channels, **shared)
    return gaussian.prepare(data.moments(), data.channels, overwrite=True, **shared)


def _folded(state: PairState, data: PairData, settings: Gaussian, seed: int) -> FoldedInformation:
    return FoldedInformation(state, data.whole, settings.repeats, settings.ridge, seed)


def prepare_reconstruction(
    data: PairData, settings: Reconstruction, seed: int
) -> ReconstructionState:
    """The paper's perceptrons of one pair, trained."""
    seeded = _seeded(settings, seed)
    return reconstruction.prepare(pair_rows(*data.whole(), seeded, data.name), seeded)


def _seeded(settings: Reconstruction, seed: int) -> ReconstructionSettings:
    return ReconstructionSettings(**asdict(settings), seed=seed)


def _reconstruction(
    state: ReconstructionState, data: PairData, settings: Reconstruction, seed: int
) -> ReconstructionInformation:
    seeded = _seeded(settings, seed)
    return ReconstructionInformation(
        state, lambda: pair_rows(*data.whole(), seeded, data.name), seeded
    )


def _state_itself(state: PairState, *_: object) -> PairState:
    return state


ESTIMATORS: Mapping[str, Estimator] = {
    "gaussian": Estimator(
        Gaussian, prepare_gaussian, gaussian.from_tensors, _state_itself, _folded
    ),
    "reconstruction": Estimator(
        Reconstruction,
        prepare_reconstruction,
        reconstruction.from_tensors,
        _reconstruction,
        _reconstruction,
    ),
}


def estimator_named(name: str) -> Estimator:
    """The estimator of a name.

    Raises
    ------
    ConfigError : there is none.
    """
    if name not in ESTIMATORS:
        raise ConfigError(
            f"{option('estimator')} {name!r} is unknown; {did_you_mean(name, ESTIMATORS)}."
        )
    return ESTIMATORS[name]


def estimator_of(settings: Any) -> tuple[str, Estimator]:
    """The name and the estimator whose settings these are.

    Raises
    ------
    ConfigError : they are those of none.
    """
    for name, estimator in ESTIMATORS.items():
        if isinstance(settings, estimator.settings):
            return name, estimator
    known = ", ".join(estimator.settings.__name__ for estimator in ESTIMATORS.values())
    raise ConfigError(
        f"{option('estimator')}={settings!r} is none.\nExpected the settings of one, such as "
        f"Gaussian(), got a {type(settings).__name__}; choose from {known}."
    )
