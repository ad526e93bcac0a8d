"""The `mipp sweep` command: its options, and what it prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mipp.config import require_one_machine
from mipp.experiments.results import TABLE
from mipp.experiments.spec import SCALES
from mipp.experiments.sweep import plan_sweep, run_sweep

EPILOG = """\
examples:
  mipp sweep experiments/digits.yaml --scale smoke --root runs/digits
  mipp sweep experiments/lenet5-mnist.yaml --scale small --root runs/lenet5 --workers 2
  mipp sweep experiments/digits.yaml --root runs/digits --only method=mipp,seed=0

A point that is complete is not computed again, so a killed sweep goes on where it stopped.
exit codes: 0 done, 2 bad input, 1 a point failed or anything else.
"""


def add_sweep(commands: Any) -> None:
    """Add the command's parser to those of `mipp`."""
    sweep: argparse.ArgumentParser = commands.add_parser(
        "sweep",
        help="all points of an experiment: methods x budgets x seeds x trained or untrained",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sweep.add_argument("experiment", type=Path, metavar="FILE", help="such as experiments/x.yaml")
    sweep.add_argument("--scale", default="smoke", help=f"{', '.join(SCALES)} (%(default)s)")
    sweep.add_argument("--root", type=Path, required=True, metavar="DIR", help="for all it makes")
    sweep.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one parameter of every point; may be given several times",
    )
    sweep.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="points with these values alone, such as method=mipp,seed=0",
    )
    sweep.add_argument("--workers", type=int, default=1, help="points at once (%(default)s)")
    sweep.add_argument("--quiet", action="store_true", help="show only warnings and errors")


def sweep(options: argparse.Namespace) -> tuple[int, str]:
    """Run the sweep; returns the exit code and one line that says where the table is."""
    plan = plan_sweep(options.experiment, options.scale, options.root, options.set, options.only)
    require_one_machine(plan.wanted[0].params.compute, instead="flows.sweep")
    failed = run_sweep(plan, options.root, max(1, options.workers))
    for point, reason in failed:
        sys.stderr.write(f"failed: {point.name}: {reason}\n")
    done = f"{len(plan.wanted) - len(failed)} of {len(plan.wanted)} points"
    return (1 if failed else 0), f"{done}: {options.root / TABLE}"
