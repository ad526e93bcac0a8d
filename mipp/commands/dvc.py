"""`mipp dvc`: the stages as a DVC pipeline."""

from __future__ import annotations

import argparse

from mipp.commands.arguments import DEFAULT_WORKDIR
from mipp.stages.dvc import dvc_pipeline

EPILOG = """\
examples:
  mipp params > params.yaml && mipp dvc > dvc.yaml && dvc init && dvc repro
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    parser.add_argument("--workdir", default=DEFAULT_WORKDIR, metavar="DIR", help="(%(default)s)")
    parser.add_argument("--config", default="params.yaml", metavar="FILE", help="(%(default)s)")
    parser.add_argument(
        "--inputs",
        action="append",
        default=[],
        metavar="PATH",
        help="file or folder with data or weights, on which stages that read data depend",
    )


def run(options: argparse.Namespace) -> int:
    """Print the text of the file."""
    print(dvc_pipeline(options.workdir, options.config, options.inputs), end="")
    return 0
