"""`mipp sweep`: all points of an experiment."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mipp.bounds import Count, require_number
from mipp.commands.arguments import add_json, add_set
from mipp.config import require_one_machine
from mipp.experiments.results import TABLE
from mipp.experiments.spec import SCALES
from mipp.experiments.sweep import plan_sweep, run_sweep

EPILOG = """\
examples:
  mipp sweep experiments/digits.yaml --scale smoke --root runs/digits
  mipp sweep experiments/lenet5-mnist.yaml --scale small --root runs/lenet5 --workers 2
  mipp sweep experiments/digits.yaml --root runs/digits --only method=mipp,seed=0

A point that is complete is not computed again, so a killed sweep goes on where it stopped; exit
code 1 where a point failed.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    parser.add_argument("experiment", type=Path, metavar="FILE", help="such as experiments/x.yaml")
    parser.add_argument("--scale", default="smoke", help=f"{', '.join(SCALES)} (%(default)s)")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="for all it makes")
    add_set(parser, "one parameter of every point")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="points with these values alone, such as method=mipp,seed=0",
    )
    parser.add_argument("--workers", type=int, default=1, help="points at once (%(default)s)")
    add_json(parser, "how many points are done, which failed, and the table's file")


def run(options: argparse.Namespace) -> int:
    """Run the sweep; says where the table is."""
    require_number("--workers", options.workers, Count)
    plan = plan_sweep(options.experiment, options.scale, options.root, options.set, options.only)
    require_one_machine(plan.wanted[0].params.compute, instead="flows.sweep")
    failed = run_sweep(plan, options.root, options.workers)
    for point, reason in failed:
        sys.stderr.write(f"failed: {point.name}: {reason}\n")
    points, table = len(plan.wanted), options.root / TABLE
    done = points - len(failed)
    if options.json:
        reasons = {point.name: reason for point, reason in failed}
        said = {"points": points, "done": done, "failed": reasons, "table": str(table)}
        print(json.dumps(said))
    else:
        print(f"{done} of {points} points: {table}")
    return 1 if failed else 0
