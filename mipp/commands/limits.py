"""Options of how far a network may be cut: `mipp inspect` and `mipp prune` have them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mipp.settings import Limits

LIMITS = ("min_channels", "round_to", "ignore", "keep_outputs", "keep_inputs")
PATTERNS = {
    "ignore": "whose channels stay on both sides; names, or patterns with * for any letters",
    "keep-outputs": "whose outputs stay",
    "keep-inputs": "whose inputs stay",
}
WRITTEN: Mapping[str, str] = {name: f"--{name.replace('_', '-')}" for name in LIMITS}


def add_limits(parser: argparse._ActionsContainer) -> None:
    """`--min-channels`, `--round-to` and patterns of modules that stay."""
    for name, what in (("min-channels", "of a group"), ("round-to", "widths are multiples of it")):
        usual = getattr(Limits, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=int, default=usual, metavar="N", help=f"{what} (%(default)s)"
        )
    for name, kept in PATTERNS.items():
        parser.add_argument(
            f"--{name}", nargs="+", default=[], metavar="PATTERN", help=f"modules {kept}"
        )


def limits_given(options: argparse.Namespace) -> dict[str, Any]:
    """What these options say, as `mipp.prune` and `mipp.inspect` take it."""
    return {name: getattr(options, name) for name in LIMITS}
