"""The estimators by name: what each prepares from a pair's rows, keeps in a file and answers.

One of yours is an `Estimator` with settings of its own, named by `package.module:attribute` or
registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mipp.errors import ConfigError, option
from mipp.information import moments
from mipp.information.moments import Moments
from mipp.information.protocols import PairInformation, SampledInformation
from mipp.names import Table
from mipp.settings import ESTIMATOR_NAMES


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

    `settings` is the dataclass of its own settings, of which the section `estimate` sets those that
    it has by name. `answers` serves thresholds, `samples` a test of
    significance: its eliminations have independent estimates of what each channel adds.
    """

    settings: type[Any]
    prepare: Callable[[PairData, Any, int], PairEstimate]
    restore: Callable[[Mapping[str, Tensor]], PairEstimate]
    answers: Callable[[Any, PairData, Any, int], PairInformation]
    samples: Callable[[Any, PairData, Any, int], SampledInformation]


def _require_estimator(thing: Any) -> None:
    if not isinstance(thing, Estimator):
        kind = type(thing).__name__
        raise TypeError(f"expected a mipp.information.estimators.Estimator, got a {kind}")
    if not is_dataclass(thing.settings):
        raise TypeError(f"expected a dataclass of its settings, got {thing.settings!r}")


ESTIMATORS: Table[Estimator] = Table(
    "estimator",
    "estimator",
    ConfigError,
    _require_estimator,
    {
        "gaussian": "mipp.information.gaussian.estimator:ESTIMATOR",
        "reconstruction": "mipp.information.reconstruction.estimator:ESTIMATOR",
        "neighbours": "mipp.information.direct.neighbours:ESTIMATOR",
        "kernel-density": "mipp.information.direct.kernel_density:ESTIMATOR",
        "histogram": "mipp.information.direct.histogram:ESTIMATOR",
        "mine": "mipp.information.direct.variational:MINE",
        "infonce": "mipp.information.direct.variational:INFONCE",
        "nwj": "mipp.information.direct.variational:OF_NWJ",
        "tuba": "mipp.information.direct.variational:OF_TUBA",
        "interpolated": "mipp.information.direct.variational:INTERPOLATED",
        "diffusion": "mipp.information.direct.diffusion:ESTIMATOR",
        "dime": "mipp.information.direct.dime:ESTIMATOR",
    },
)
_NAMES: dict[type[Any], str] = dict(ESTIMATOR_NAMES)


def register_estimator(name: str) -> Callable[[Estimator], Estimator]:
    """Takes an `Estimator`: `choose.estimator` may say this name, in this process.

    Elsewhere, and from every command, `package.module:attribute` names the same estimator.

    Raises
    ------
    ConfigError : the name is taken, it is no `Estimator`, or its settings are another one's.

    Example
    -------
    >>> from dataclasses import dataclass, replace
    >>> @dataclass(frozen=True)
    ... class Coarse:
    ...     ridge: float = 1e-3
    ...     resolution: float = 3.0
    >>> coarse = register_estimator("coarse")(replace(ESTIMATORS["gaussian"], settings=Coarse))
    >>> estimator_of(Coarse(ridge=0.1))[0]
    'coarse'
    """

    def add(estimator: Estimator) -> Estimator:
        ESTIMATORS.register(name)(estimator)
        return _own(name, estimator)

    return add


def estimator_named(name: str) -> Estimator:
    """The estimator of a name, or of a `package.module:attribute`.

    Raises
    ------
    ConfigError : there is none, or its settings are another one's.
    """
    return _own(name, ESTIMATORS.resolve(name))


def estimator_of(settings: Any) -> tuple[str, Estimator]:
    """The name and the estimator whose settings these are.

    Raises
    ------
    ConfigError : they are those of none.
    """
    for kind in type(settings).__mro__:
        if kind in _NAMES:
            return _NAMES[kind], ESTIMATORS.resolve(_NAMES[kind])
    known = ", ".join(kind.__name__ for kind in _NAMES)
    raise ConfigError(
        f"{option('estimator')}={settings!r} is none.\nExpected the settings of one, such as "
        f"Gaussian(), got a {type(settings).__name__}; choose from {known}."
    )


def _own(name: str, estimator: Estimator) -> Estimator:
    """The same, once its settings lead to it and to no other."""
    known = _NAMES.setdefault(estimator.settings, name)
    if known != name and ESTIMATORS.resolve(known) is not estimator:
        kind = estimator.settings.__name__
        raise ConfigError(
            f"estimator {name!r} ({option('estimator')}) has the settings of {known!r}.\nExpected "
            f"a class of its own, by which it is found, got {kind}; derive one from {kind}."
        )
    return estimator
