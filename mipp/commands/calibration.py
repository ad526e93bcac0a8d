"""Images of `mipp prune`: batches of somebody's, or samples of a set."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mipp.budget import parse_budget
from mipp.config import DataConfig, load_params
from mipp.data import load_data
from mipp.data.load import DATA_SETS
from mipp.errors import ConfigError, DataError
from mipp.inputs import Shape
from mipp.models import ModelSpec
from mipp.names import Table, call_taking, require_takes
from mipp.stages.splits import as_weights_want, at_once

BATCH = 256  # images per pass, fewer of large ones


def _require_batches(thing: Any) -> None:
    if not isinstance(thing, Iterable):
        require_takes(thing, ("root", "seed"), "batches of inputs, or a function that returns them")


BATCHES: Table[Any] = Table("calibration data", "--data", DataError, _require_batches, {})


@dataclass(frozen=True)
class Images:
    """Batches to measure on, and labelled ones to judge by; None where the first are to do both."""

    calibration: Iterable[Any]
    validation: Iterable[Any] | None = None


def images_for(options: argparse.Namespace, spec: ModelSpec | None, shape: Shape) -> Images:
    """Batches that an address names, or those of a set: its calibration sample, and for a budget of
    accuracy its validation images.

    Parameters
    ----------
    spec : of the network where it has a name; its published weights may say how images are
        prepared.
    shape : of one input, where it is known.

    Raises
    ------
    ConfigError, DataError : there are no such images, or the options do not go together.
    """
    config = _section(options)
    if config.name not in DATA_SETS and ":" in config.name:
        brought = _brought(config, options.seed)
        if not isinstance(brought, tuple):
            return Images(_iterable(brought, config.name))
    if spec is not None:
        config = as_weights_want(config, spec.name)
    of_images = isinstance(shape, tuple) and len(shape) == 3
    channels, size = shape[0::2] if of_images else (None, None)
    data = load_data(config, seed=options.seed, channels=channels, size=size)
    count = at_once(BATCH, data.shape)
    judged = parse_budget(options.budget).is_searched and len(data.validation) > 0
    validation = list(data.validation.batches(count)) if judged else None
    return Images(data.calibration.batches(count), validation)


def _section(options: argparse.Namespace) -> DataConfig:
    """Section `data` of the file, of `--set`, and of the command's own options."""
    if options.data is None and options.config is None:
        raise ConfigError(
            "--data is missing.\nExpected the calibration images, got none; add --data NAME, or "
            "--config with a file whose section `data` names them."
        )
    others = [override for override in options.set if not override.startswith("data.")]
    if others:
        raise ConfigError(
            f"--set {others[0]} has no effect on a network.\nExpected --set data.KEY=VALUE, got "
            f"{others[0]!r}; leave it out, or see the options of `mipp prune --help`."
        )
    given = {"name": options.data, "root": options.root, "calibration": options.images}
    own = [f"data.{key}={value}" for key, value in given.items() if value is not None]
    return load_params(options.config, [*options.set, *own]).data


def _brought(config: DataConfig, seed: int) -> Any:
    named = BATCHES.resolve(config.name)
    if isinstance(named, Iterable):
        return named
    return call_taking(named, root=config.root, seed=seed)


def _iterable(brought: Any, address: str) -> Iterable[Any]:
    if isinstance(brought, Iterable):
        return brought
    raise DataError(
        f"calibration data {address!r} (--data) holds none.\nExpected batches of inputs, such as a "
        f"DataLoader, or (train, test), got a {type(brought).__name__}; return one of these."
    )
