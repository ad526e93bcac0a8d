"""Options that several commands have."""

from __future__ import annotations

import argparse

DEFAULT_WORKDIR = "work"


def add_workdir(parser: argparse._ActionsContainer) -> None:
    """`--workdir`."""
    parser.add_argument(
        "--workdir",
        default=DEFAULT_WORKDIR,
        metavar="DIR",
        help="where stages leave their folders, or a URL such as s3://bucket/run "
        "(default: %(default)s)",
    )


def add_params(parser: argparse._ActionsContainer, without: str = "built-in") -> None:
    """`--config` and `--set`.

    Parameters
    ----------
    without : what the parameters are where no file is given.
    """
    parser.add_argument("--config", metavar="FILE", help=f"parameters in YAML (default: {without})")
    add_set(parser, "one parameter")


def add_set(parser: argparse._ActionsContainer, what: str) -> None:
    """`--set`, which may be given several times."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help=f"override {what}; may be given several times",
    )


def add_json(parser: argparse._ActionsContainer, what: str) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as one line of JSON")
