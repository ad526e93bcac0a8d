"""`mipp init`: a minimal project around a network and images, which runs as it is."""

from __future__ import annotations

import argparse
import json
from contextlib import chdir
from importlib.resources import files
from pathlib import Path

from mipp.commands.arguments import DEFAULT_WORKDIR, add_json
from mipp.config import dump_params, load_params
from mipp.config.yaml_values import yaml_text
from mipp.errors import ConfigError
from mipp.stages.dvc import dvc_pipeline

PARAMS, PIPELINE, ENDING = "params.yaml", "dvc.yaml", "-tpl"
SETTINGS = (
    "model.name=my_network:Net",
    "data.name=my_network:load",
    "data.calibration=512",
    "train.epochs=10",
    "extract.rows=2048",
    "finetune.epochs=2",
)
HEAD = (
    "# Every parameter of a run, as `mipp params` writes them; --set section.key=value overrides.\n"
)
EPILOG = """\
examples:
  mipp init my_project && cd my_project
  mipp run --config params.yaml

It writes a module with a network and images, in whose places yours go, a test, params.yaml,
dvc.yaml, prefect.yaml and a README that says how each is run. Nothing is overwritten.
"""
NEXT = """\
  mipp run --config params.yaml
Your network and images go into my_network.py; README.md has the test, the flow and DVC."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("."), metavar="FOLDER", help="(%(default)s)"
    )
    add_json(parser, "the folder and the files that were written")


def run(options: argparse.Namespace) -> int:
    """Write the project."""
    names = make_project(options.folder)
    if options.json:
        print(json.dumps({"folder": str(options.folder), "files": names}))
    else:
        print(f"{options.folder} has {', '.join(names)}\n\nnext:")
        if options.folder.resolve() != Path.cwd():
            print(f"  cd {options.folder}")
        print(NEXT)
    return 0


def make_project(folder: Path) -> list[str]:
    """Write a project that runs as it is into a folder; returns the names of its files.

    Raises
    ------
    ConfigError : one of the files is there already, or the folder cannot be one; nothing is
        written.
    """
    templates = files(__package__).joinpath("template").iterdir()
    texts = {_target(file.name): file.read_text("utf-8") for file in templates}
    texts[PARAMS] = HEAD + yaml_text(dump_params(load_params(overrides=SETTINGS)))
    _require_free(folder, [*texts, PIPELINE])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    with chdir(folder):
        pipeline = dvc_pipeline(DEFAULT_WORKDIR, PARAMS, ())
    (folder / PIPELINE).write_text(pipeline, "utf-8")
    return sorted([*texts, PIPELINE])


def _target(template: str) -> str:
    """`dot-gitignore-tpl` becomes `.gitignore`."""
    name = template.removesuffix(ENDING)
    return f".{name.removeprefix('dot-')}" if name.startswith("dot-") else name


def _require_free(folder: Path, names: list[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            f"no project can be made in {folder}.\nExpected a folder or a name that is free, got a "
            "file; give another name."
        )
    there = sorted(name for name in names if (folder / name).exists())
    if there:
        raise ConfigError(
            f"a project in {folder} would overwrite {', '.join(there)}.\nExpected a folder without "
            f"such files, got {len(there)} of {len(names)}; give another folder: `mipp init NAME`."
        )
