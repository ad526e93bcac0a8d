"""`mipp train`, `mipp extract` and so on: one stage over a work directory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mipp.commands.arguments import add_json, add_params, add_workdir
from mipp.config import load_params, require_one_machine
from mipp.disk.occupied import occupied
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest, require_writable
from mipp.stages import run_one
from mipp.stages.rank import ranks_given

EPILOG = """\
The stages before it have to be there and up to date; `mipp run` runs them all.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    add_workdir(parser)
    add_params(parser, without="those of the last run")
    add_json(parser, "the stage's folder and its files with their SHA-256")


def run(options: argparse.Namespace) -> int:
    """The stage of the command's name, unless it is up to date."""
    name, workdir = options.command, Workdir.open(options.workdir)
    params = load_params(last_params(options.config, workdir), options.set)
    require_one_machine(params.compute)
    with ranks_given(params.compute) as leads:
        if leads:
            require_writable(workdir)
            with occupied(workdir, f"mipp {name}"):
                run_one(name, workdir, params)
            if options.json:
                print(_as_json(name, workdir))
    return 0


def last_params(config: str | None, workdir: Workdir) -> Path | None:
    """The file given, or that of the last run in the work directory, or none."""
    return Path(config) if config is not None else workdir.file("params.yaml")


def _as_json(name: str, workdir: Workdir) -> str:
    folder = workdir.stage(name)
    manifest = read_manifest(folder)
    assert manifest is not None
    said = {"stage": name, "folder": str(folder), "outputs": dict(manifest.outputs)}
    return json.dumps(said, sort_keys=True)
