"""`mipp run`: all stages over a work directory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mipp.commands.arguments import add_json, add_params, add_workdir
from mipp.config import Params, load_params, require_one_machine, write_params
from mipp.disk.occupied import occupied
from mipp.disk.storage import Workdir
from mipp.disk.workdir import require_writable
from mipp.report import result_table
from mipp.stages import epochs_after_pruning, preflight, run_all
from mipp.stages.rank import ranks_given
from mipp.stages.sharing import share_stages

EPILOG = """\
examples:
  mipp run                                         digits and LeNet-5, everything by default
  mipp run --workdir w --set data.name=mnist --set choose.budget=ratio:0.5
  mipp run --workdir w --config params.yaml --json
  mipp run --workdir w2 --from w --set choose.budget=macs:0.3    shares what does not change
  mipp run --set model.name=my_net:Net             a network of yours, in my_net.py

A stage whose parameters, inputs and code have not changed is not run again, so a killed run goes
on where it stopped.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    add_json(parser, "the metrics")
    parser.add_argument(
        "--from",
        dest="other",
        metavar="DIR",
        help="use the dense network, activations and estimates of another work directory, a "
        "folder or a URL, where they fit",
    )
    add_workdir(parser)
    add_params(parser)


def run(options: argparse.Namespace) -> int:
    """All stages that are not up to date, and the result table."""
    workdir = Workdir.open(options.workdir)
    params = load_params(options.config, options.set)
    require_one_machine(params.compute)
    with ranks_given(params.compute) as leads:
        if leads:
            _run_stages(options, workdir, params)
    return 0


def _run_stages(options: argparse.Namespace, workdir: Workdir, params: Params) -> None:
    preflight(workdir, params)
    require_writable(workdir)
    with occupied(workdir, "mipp run"):
        if options.other is not None:
            share_stages(workdir.folder, Workdir.open(options.other))
        write_params(params, workdir.folder / "params.yaml")
        workdir.keep_file("params.yaml")
        run_all(workdir, params)
    show_result(workdir.folder, params, as_json=options.json)


def show_result(workdir: Path, params: Params, *, as_json: bool) -> None:
    """Print the result table of a run and where its report is, or its metrics as a line of JSON."""
    metrics = json.loads((workdir / "evaluate/metrics.json").read_text())
    if as_json:
        print(json.dumps(metrics, sort_keys=True))
        return
    print(f"{params.model.name} on {params.data.name}, {params.choose.budget}\n")
    print(result_table(metrics, epochs_after_pruning(workdir)))
    print(f"report: {workdir / 'report/report.html'}")
