"""One network, from a file or an address, pruned and written to a file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.commands import limits
from mipp.commands.arguments import DEFAULT_WORKDIR
from mipp.config import DataConfig, parse_section
from mipp.data import load_data
from mipp.data.load import DATA_SETS
from mipp.device import resolve_device
from mipp.errors import ConfigError, DataError, ModelError
from mipp.inputs import Shape
from mipp.models import ModelSpec
from mipp.names import Table, call_taking, require_takes
from mipp.pruning.oneshot import REPAIRS, prune
from mipp.pruning.pruned import Pruned
from mipp.selection.selection import Selection
from mipp.settings import Limits
from mipp.stages.splits import as_weights_want, at_once
from mipp.whole_files import written_whole

BATCH = 256  # images per pass, fewer of large ones
DEFAULTS: Mapping[str, Any] = {
    "data": None,
    "root": None,
    "prepare": "set",
    "budget": "macs:0.5",
    "method": "mipp",
    "repair": "refit",
    "images": 1024,
    "seed": 0,
    "device": "auto",
    "out": None,
    **{name: getattr(Limits, name) for name in ("min_channels", "round_to")},
    **{name: [] for name in ("ignore", "keep_outputs", "keep_inputs")},
}
STAGE_DEFAULTS: Mapping[str, Any] = {"workdir": DEFAULT_WORKDIR, "config": None, "set": []}
WRITTEN = {
    **limits.WRITTEN,
    "data.name": "--data",
    "data.root": "--root",
    "data.calibration": "--images",
    "images": "--images",
    "calls": "mipp.prune(calls=...)",
}


def _require_network(thing: Any) -> None:
    if not isinstance(thing, nn.Module):
        require_takes(
            thing, (), "a network, or a function or class that makes one with its weights"
        )


def _require_batches(thing: Any) -> None:
    if not isinstance(thing, Iterable):
        require_takes(thing, ("root", "seed"), "batches of inputs, or a function that returns them")


NETWORKS: Table[Any] = Table("network", "--model", ModelError, _require_network, {})
BATCHES: Table[Any] = Table("calibration data", "--data", DataError, _require_batches, {})


@dataclass(frozen=True)
class Dense:
    """What is to be pruned, with what its file says of it, None where it is from an address."""

    model: nn.Module
    spec: ModelSpec | None = None
    selection: Selection | None = None
    shape: Shape = None


def add_network(parser: argparse._ArgumentGroup) -> None:
    """The options of a network that is pruned at once."""

    def add(name: str, says: str, **settings: Any) -> None:
        parser.add_argument(f"--{name}", default=DEFAULTS[name], help=says, **settings)

    parser.add_argument(
        "checkpoint",
        nargs="?",
        metavar="CHECKPOINT",
        help="what mipp.save_checkpoint, Pruned.save or a stage wrote (.safetensors)",
    )
    parser.add_argument(
        "--model",
        metavar="PACKAGE.MODULE:ATTRIBUTE",
        help="a network of yours with its weights, or what makes it; beside a CHECKPOINT of one "
        "what makes it before it was pruned",
    )
    add(
        "data",
        "calibration images: a set as data.name says it, or PACKAGE.MODULE:ATTRIBUTE of batches, "
        "such as a DataLoader, or of a function that returns them",
        metavar="NAME",
    )
    add("root", "folder of the set, as data.root says it", metavar="DIR")
    add("prepare", "`weights` scales images as published weights want it (set)", metavar="HOW")
    add("budget", "as choose.budget says it (%(default)s)", metavar="KIND:VALUE")
    add("method", "mipp, or a criterion, as choose.method says it (%(default)s)")
    add("repair", "after the cut (%(default)s)", choices=tuple(REPAIRS))
    add("images", "used (%(default)s)", type=int, metavar="N")
    add("seed", "of the sample (%(default)s)", type=int, metavar="N")
    add("device", "auto, cpu, cuda or cuda:N (%(default)s)")
    add("out", "where the pruned network is written (.safetensors)", metavar="FILE")


def prune_network(options: argparse.Namespace) -> Pruned:
    """Prune the network of the options and write it to their file.

    Raises
    ------
    InputError : the network, the images or the file cannot be had, or as for `mipp.prune`.
    """
    out = _out(options)
    dense = _network(options)
    device = resolve_device(options.device)
    batches = _batches(options, dense)
    pruned = prune(
        dense.model.to(device),
        batches,
        options.budget,
        method=options.method,
        repair=options.repair,
        images=options.images,
        seed=options.seed,
        **limits.limits_given(options),
    )
    both = dense.selection.then(pruned.selection) if dense.selection else pruned.selection
    pruned = replace(pruned, selection=both)
    with written_whole(out) as partial:
        save_checkpoint(partial, Checkpoint(pruned.model, dense.spec, both, pruned.shape))
    return pruned


def _out(options: argparse.Namespace) -> Path:
    """The file to write, looked at before anything is computed."""
    for name, wanted in (("data", "the calibration images"), ("out", "a file for the result")):
        if getattr(options, name) is None:
            raise ConfigError(
                f"--{name} is missing.\nExpected {wanted}, got none; add --{name}, see `mipp prune "
                "--help`."
            )
    out = Path(options.out)
    given = options.checkpoint is not None and Path(options.checkpoint).resolve()
    taken = out.is_dir() or out.resolve() == given
    if taken or not out.parent.is_dir():
        raise ConfigError(
            f"--out {out} cannot be written.\nExpected a new file in a folder that is there, got "
            f"{'the checkpoint or a folder' if taken else 'a folder that is not'}; choose another."
        )
    return out


def _network(options: argparse.Namespace) -> Dense:
    named = NETWORKS.resolve(options.model) if options.model is not None else None
    if options.checkpoint is None:
        return Dense(_made(named, options.model))
    build = None if named is None else lambda: _made(named, options.model)
    found = load_checkpoint(Path(options.checkpoint), build)
    return Dense(found.model, found.spec, found.selection, found.shape)


def _made(named: Any, address: str) -> nn.Module:
    model = named if isinstance(named, nn.Module) else named()
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"network {address!r} (--model) makes none.\nExpected an nn.Module, got a "
            f"{type(model).__name__}; return the network."
        )
    return model


def _batches(options: argparse.Namespace, dense: Dense) -> Iterable[Any]:
    """Batches of an address, or of the calibration sample of a set."""
    if options.data not in DATA_SETS and ":" in options.data:
        named = BATCHES.resolve(options.data)
        given = {"root": options.root, "seed": options.seed}
        brought = named if isinstance(named, Iterable) else call_taking(named, **given)
        if not isinstance(brought, tuple):
            return _iterable(brought, options.data)
    values = {
        "name": options.data,
        "root": options.root,
        "prepare": options.prepare,
        "calibration": options.images,
    }
    config = parse_section(DataConfig, values, "the command line")
    if dense.spec is not None:
        config = as_weights_want(config, dense.spec.name)
    of_images = isinstance(dense.shape, tuple) and len(dense.shape) == 3
    channels, size = dense.shape[0::2] if of_images else (None, None)
    data = load_data(config, seed=options.seed, channels=channels, size=size)
    return list(data.calibration.batches(at_once(BATCH, data.shape)))


def _iterable(brought: Any, address: str) -> Iterable[Any]:
    if isinstance(brought, Iterable):
        return brought
    raise DataError(
        f"calibration data {address!r} (--data) holds none.\nExpected batches of inputs, such as a "
        f"DataLoader, or (train, test), got a {type(brought).__name__}; return one of these."
    )
