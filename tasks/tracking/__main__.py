"""`python -m tasks.tracking --workdir DIR` logs a finished work directory to MLflow.

`python -m tasks.tracking --register NAME --within macs:0.5` registers the best run.
"""

from __future__ import annotations

import argparse
import sys

from mipp.budget import parse_budget
from mipp.commands.arguments import add_params, add_workdir
from mipp.config import Params, load_params
from mipp.process.exit_codes import exit_code
from tasks.tracking import track
from tasks.tracking.registry import register_best


def main() -> int:
    """Log a finished work directory to MLflow, or register the best of the runs logged before."""
    options = _parser().parse_args()
    return exit_code(lambda: print(_answer(options)))


def _answer(options: argparse.Namespace) -> str:
    params = load_params(options.config, options.set)
    if options.register:
        return _register(params, options.register, options.within)
    return _track(params, options.workdir)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.tracking", description=main.__doc__)
    add_workdir(parser)
    add_params(parser)
    parser.add_argument(
        "--register", metavar="NAME", help="of a model of MLflow's registry that gets the best run"
    )
    parser.add_argument("--within", metavar="BUDGET", help="that it keeps; default: choose.budget")
    return parser


def _track(params: Params, workdir: str) -> str:
    run_id = track(workdir, params)
    if run_id:
        return f"logged {workdir} to {params.tracking.uri} as run {run_id}"
    return f"nothing was logged: tracking.uri is null; give an address to log {workdir}"


def _register(params: Params, name: str, within: str | None) -> str:
    budget = parse_budget(within) if within else params.choose.budget
    version = register_best(params, name, budget)
    return (
        f"registered run {version.run_id}, the best within {budget}, as models:/{name}@best "
        f"(version {version.version})"
    )


if __name__ == "__main__":
    sys.exit(main())
