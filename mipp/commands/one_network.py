"""One network, from a file or an address, pruned and written to a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.commands import limits
from mipp.commands.arguments import DEFAULT_WORKDIR
from mipp.commands.calibration import images_for
from mipp.device import resolve_device
from mipp.errors import ConfigError, ModelError
from mipp.inputs import Shape
from mipp.models import ModelSpec
from mipp.names import Table, require_takes
from mipp.pruning.oneshot import REPAIRS, prune
from mipp.pruning.pruned import Pruned
from mipp.selection.selection import Selection
from mipp.settings import DROP_CONFIDENCE, NARROW_HEADS, Limits

DEFAULTS: Mapping[str, Any] = {
    "data": None,
    "root": None,
    "budget": "macs:0.5",
    "method": "mipp",
    "repair": "refit",
    "images": 1024,
    "drop_confidence": DROP_CONFIDENCE,
    "narrow_heads": NARROW_HEADS,
    "seed": 0,
    "device": "auto",
    "out": None,
    **{name: getattr(Limits, name) for name in ("min_channels", "round_to")},
    **{name: [] for name in ("ignore", "keep_outputs", "keep_inputs")},
}
STAGE_DEFAULTS: Mapping[str, Any] = {"workdir": DEFAULT_WORKDIR}
WRITTEN = {
    **limits.WRITTEN,
    "data.name": "--data",
    "data.root": "--root",
    "data.calibration": "--images",
    "images": "--images",
    "Mipp.rows": "mipp.Mipp(rows=...)",
    "Mipp.rows or images": "--images",
    "calibration": "--data",
    "compute.device": "--device",
    "budget": "--budget",
    "method": "--method",
    "repair": "--repair",
    "latency_batch": "mipp.prune(latency_batch=...)",
    "validation": "data.validation",
    "drop_confidence": "--drop-confidence",
    "narrow_heads": "--narrow-heads",
    "calls": "mipp.prune(calls=...)",
}


def _require_network(thing: Any) -> None:
    if not isinstance(thing, nn.Module):
        require_takes(
            thing, (), "a network, or a function or class that makes one with its weights"
        )


NETWORKS: Table[Any] = Table("network", "--model", ModelError, _require_network, {})


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
        parser.add_argument(
            f"--{name}", default=DEFAULTS[name.replace("-", "_")], help=says, **settings
        )

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
    add("budget", "as choose.budget says it (%(default)s)", metavar="KIND:VALUE")
    add("method", "mipp, or a criterion, as choose.method says it (%(default)s)")
    add("repair", "after the cut (%(default)s)", choices=tuple(REPAIRS))
    add("images", "used (%(default)s)", type=int, metavar="N")
    add(
        "drop-confidence",
        "of a budget drop:X: percent, how sure it is that accuracy falls by no more; 0: by what is "
        "measured (%(default)s)",
        type=float,
        metavar="X",
    )
    add(
        "narrow-heads",
        "share of what attention computes that fewer dimensions of its heads must tell; 1: as many "
        "as there are (%(default)s)",
        type=float,
        metavar="X",
    )
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
    images = images_for(options, dense.spec, dense.shape)
    pruned = prune(
        dense.model.to(device),
        images.calibration,
        options.budget,
        method=options.method,
        repair=options.repair,
        images=options.images,
        validation=images.validation,
        drop_confidence=options.drop_confidence,
        narrow_heads=options.narrow_heads,
        seed=options.seed,
        **limits.limits_given(options),
    )
    both = dense.selection.then(pruned.selection) if dense.selection else pruned.selection
    pruned = replace(pruned, selection=both)
    save_checkpoint(out, Checkpoint(pruned.model, dense.spec, both, pruned.shape))
    return pruned


def _out(options: argparse.Namespace) -> Path:
    """The file to write, looked at before anything is computed."""
    if options.out is None:
        raise ConfigError(
            "--out is missing.\nExpected a file for the pruned network, got none; add --out "
            "small.safetensors."
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
