"""`mipp budget`: what several budgets would cost, before any cut."""

from __future__ import annotations

import argparse
import json

from mipp.commands.arguments import add_json, add_params, add_workdir
from mipp.commands.stage import last_params
from mipp.config import WRITTEN, load_params
from mipp.disk.storage import Workdir
from mipp.errors import as_written
from mipp.stages.choose import trade_off
from mipp.stages.pipeline import require_before

EPILOG = """\
examples:
  mipp budget --workdir w
  mipp budget --workdir w --budgets macs:0.5 params:0.3 ratio:0.8 --json

It reads what stage `estimate` left, which has to be up to date, or scores the dense network by the
criterion of choose.method; nothing is cut or written.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--budgets",
        nargs="+",
        default=["macs:0.7", "macs:0.5", "macs:0.3"],
        metavar="KIND:VALUE",
        help="as choose.budget says them (default: macs:0.7 macs:0.5 macs:0.3)",
    )
    add_json(parser, "a list with an object for each budget")
    add_workdir(parser)
    add_params(parser, without="those of the last run")


@as_written({**WRITTEN, "budget": "--budgets"})
def run(options: argparse.Namespace) -> int:
    """Print a row for each budget."""
    workdir = Workdir.open(options.workdir)
    params = load_params(last_params(options.config, workdir), options.set)
    require_before("choose", workdir, params)
    found = trade_off(workdir, params, options.budgets)
    print(json.dumps(found.rows()) if options.json else found)
    return 0
