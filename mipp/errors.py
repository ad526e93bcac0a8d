"""Every error that mipp raises on purpose; the text is built where it is raised."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar


class MippError(Exception):
    """Anything mipp refuses or cannot do.

    Example
    -------
    >>> import mipp
    >>> try:
    ...     mipp.Budget("macs", 2.0)
    ... except MippError as error:
    ...     print(str(error).splitlines()[0])
    budget='macs:2' is out of range.
    """


class InputError(MippError):
    """Bad input, refused before compute starts; the command line exits with 2."""


class ConfigError(InputError):
    """A parameter is unknown, of the wrong type or out of range."""


class DataError(InputError):
    """A data set is unknown, missing, empty or unreadable."""


class ModelError(InputError):
    """A model is unknown, cannot be traced, or does not fit its input."""


class LayerError(InputError):
    """A kind of layer cannot be registered."""


class CheckpointError(InputError):
    """A weight file is missing, unreadable or does not fit the model."""


class BudgetError(InputError):
    """A budget cannot be parsed or cannot be reached."""


class DeviceError(InputError):
    """A device was asked for that this machine does not have."""


class WorkdirError(InputError):
    """A work directory cannot be written, or lacks an earlier stage."""


class StorageError(InputError):
    """The address of a work directory cannot be opened, read or written."""


class StoreError(InputError):
    """An activation store is missing, incomplete or malformed."""


class DamagedStoreError(StoreError):
    """A chunk of an activation store is missing, or not what was written."""


class StoreMismatchError(StoreError):
    """An activation store was written for another model, split or sampling."""


class ActivationError(InputError):
    """Activations hold values that no estimator can use (NaN, infinity)."""


class SingularCovarianceError(InputError):
    """A covariance is not positive definite after the ridge was added."""


class EstimationError(InputError):
    """An estimator cannot work: too few rows, one class only, or its training diverges."""


class ScoreError(InputError):
    """A criterion's scores cannot rank the units of a network."""


class ContractError(MippError, AssertionError):
    """A part that someone brings does not do what such a part has to do; for tests."""


class CutError(MippError):
    """A selection cannot be applied to this model."""


class ExportError(MippError):
    """A network cannot be written as a program, or the program computes something else."""


class TrainingError(MippError):
    """Training diverged."""


class LostRankError(MippError):
    """A process of a training on several devices died; the command line exits with 3."""


class ServiceError(InputError):
    """A server or worker cannot start: its port is taken, or it ended at once."""


def did_you_mean(wrong: object, known: Iterable[str]) -> str:
    """Text that lists the choices, nearest matches first."""
    names = sorted(known)
    near = difflib.get_close_matches(str(wrong).lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return f"{hint}choose from {', '.join(names)}"


def reason_of(error: BaseException) -> str:
    """Type and first line of the innermost cause; exporters wrap it in pages of advice.

    Example
    -------
    >>> reason_of(ValueError("no such disk\\nor file"))
    'ValueError: no such disk'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


_WRITTEN: ContextVar[Mapping[str, str]] = ContextVar("written")


def option(name: str) -> str:
    """An option as the caller wrote it, for the text of an error.

    From Python that is its own name, `min_channels`, or `Gaussian.ridge` where it is set on a value
    of its own. Whoever comes by a configuration wrote `choose.min_channels`, see `as_written`.
    """
    return _WRITTEN.get({}).get(name, name)


@contextmanager
def as_written(names: Mapping[str, str]) -> Iterator[None]:
    """Here options have other names: a door says so once, and the core need not know of it.

    Example
    -------
    >>> with as_written({"ridge": "estimate.ridge"}):
    ...     option("ridge"), option("images")
    ('estimate.ridge', 'images')
    """
    before = _WRITTEN.set(names)
    try:
        yield
    finally:
        _WRITTEN.reset(before)
