"""`mipp compare`: what differs between two runs."""

from __future__ import annotations

import argparse
import json

from mipp.commands.arguments import add_json
from mipp.comparing import compare

EPILOG = """\
examples:
  mipp compare work w2
  mipp compare s3://bucket/a s3://bucket/b --json

Settings that differ, sizes, accuracy and speed of both, and the widths of every group with the
Jaccard index of the units kept: those that both keep, as a share of those that either keeps. In
Python mipp.compare(a, b) takes what mipp.prune returned, too.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    for name in ("first", "second"):
        parser.add_argument(name, metavar="RUN", help=f"work directory of the {name} run, or a URL")
    add_json(parser, "all of it")


def run(options: argparse.Namespace) -> int:
    """Print the comparison."""
    found = compare(options.first, options.second)
    print(json.dumps(found.to_dict()) if options.json else found)
    return 0
