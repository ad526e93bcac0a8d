"""The `mipp` command: the whole run, or one stage of it, over a work directory."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mipp.allocator import keep_freed_memory
from mipp.config import Params, dump_params, load_params, require_one_machine, write_params
from mipp.doctor import add_doctor, examined
from mipp.exit_codes import exit_code
from mipp.experiments.command import add_sweep, sweep
from mipp.inspect_command import add_inspect, inspected
from mipp.occupied import occupied
from mipp.report import result_table
from mipp.stages import STAGES, epochs_after_pruning, preflight, run_all, run_one
from mipp.stages.choose import trade_off
from mipp.stages.dvc import dvc_pipeline
from mipp.stages.rank import ranks_given
from mipp.stages.sharing import share_stages
from mipp.storage import Workdir
from mipp.workdir import require_writable
from mipp.yaml_values import yaml_text

DEFAULT_WORKDIR = "work"
EPILOG = """\
examples:
  mipp run                                         digits and LeNet-5, everything by default
  mipp run --workdir w --set data.name=mnist --set choose.budget=ratio:0.5
  mipp run --workdir w --config params.yaml --json
  mipp run --workdir w2 --from w --set choose.budget=macs:0.3    shares what does not change
  mipp choose --workdir w --set choose.budget=macs:0.3    one stage, with another budget
  mipp run --set model.name=my_net:Net             a network of yours, in my_net.py
  mipp budget --workdir w --budgets macs:0.5 macs:0.3     what these would cost
  mipp inspect --model my_net:Net                  what of it can be pruned, and how far
  mipp doctor                                      whether this machine has what a run needs

A stage whose parameters, inputs and code have not changed is not run again, so a killed run goes
on where it stopped. exit codes: 0 done, 2 bad input, 3 a process of a training died, 130 stopped by
Ctrl-C, 1 anything else.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING if options.quiet else logging.INFO,
        format="%(message)s",
        stream=sys.stderr,
    )
    keep_freed_memory()
    commands = {
        "doctor": _doctor,
        "inspect": _inspect,
        "budget": _budget,
        "sweep": _sweep,
        "params": _print_params,
        "dvc": _print_dvc,
    }
    return exit_code(lambda: commands.get(options.command, _run)(options))


def _doctor(options: argparse.Namespace) -> int:
    code, text = examined(options)
    print(text)
    return code


def _inspect(options: argparse.Namespace) -> int:
    print(inspected(options))
    return 0


def _budget(options: argparse.Namespace) -> int:
    workdir = Workdir.open(options.workdir)
    params = load_params(_config(options, workdir), options.set)
    print(trade_off(workdir, params, options.budgets))
    return 0


def _sweep(options: argparse.Namespace) -> int:
    code, line = sweep(options)
    print(line)
    return code


def _print_params(options: argparse.Namespace) -> int:
    print(yaml_text(dump_params(load_params(options.config, options.set))), end="")
    return 0


def _print_dvc(options: argparse.Namespace) -> int:
    print(dvc_pipeline(options.workdir, options.config, options.inputs), end="")
    return 0


def _run(options: argparse.Namespace) -> int:
    workdir = Workdir.open(options.workdir)
    params = load_params(_config(options, workdir), options.set)
    require_one_machine(params.compute)
    with ranks_given(params.compute) as leads:
        return _run_stages(options, workdir, params) if leads else 0


def _run_stages(options: argparse.Namespace, workdir: Workdir, params: Params) -> int:
    whole = options.command == "run"
    if whole:
        preflight(workdir, params)
    require_writable(workdir)
    with occupied(workdir, f"mipp {options.command}"):
        if whole:
            return _run_all(options, workdir, params)
        run_one(options.command, workdir, params)
    return 0


def _run_all(options: argparse.Namespace, workdir: Workdir, params: Params) -> int:
    if options.other is not None:
        share_stages(workdir.folder, Workdir.open(options.other).folder)
    write_params(params, workdir.folder / "params.yaml")
    workdir.keep_file("params.yaml")
    run_all(workdir, params)
    _show(workdir.folder, params, as_json=options.json)
    return 0


def _config(options: argparse.Namespace, workdir: Workdir) -> Path | None:
    """The file given, or for a single stage the parameters of the last run, or none."""
    if options.config is not None:
        return Path(options.config)
    return workdir.file("params.yaml") if options.command != "run" else None


def _show(workdir: Path, params: Params, *, as_json: bool) -> None:
    metrics = json.loads((workdir / "evaluate/metrics.json").read_text())
    if as_json:
        print(json.dumps(metrics, sort_keys=True))
        return
    print(f"{params.model.name} on {params.data.name}, {params.choose.budget}\n")
    print(result_table(metrics, epochs_after_pruning(workdir)))
    print(f"report: {workdir / 'report/report.html'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mipp",
        description="Prune vision networks while preserving information between layers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="all stages: data to pruned, fine-tuned network and report",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--json", action="store_true", help="print the metrics as one line of JSON")
    run.add_argument(
        "--from",
        dest="other",
        metavar="DIR",
        help="use the dense network, activations and estimates of another work directory, "
        "where they fit",
    )
    stages = {
        name: commands.add_parser(name, help=(stage.body.__doc__ or "").splitlines()[0])
        for name, stage in STAGES.items()
    }
    add_sweep(commands)
    add_inspect(commands)
    add_doctor(commands)
    budget = commands.add_parser("budget", help="what several budgets would cost, before any cut")
    budget.add_argument(
        "--budgets",
        nargs="+",
        default=["macs:0.7", "macs:0.5", "macs:0.3"],
        metavar="KIND:VALUE",
        help="as choose.budget says them (default: macs:0.7 macs:0.5 macs:0.3)",
    )
    params = commands.add_parser("params", help="print every parameter, for a file of them")
    dvc = commands.add_parser("dvc", help="print dvc.yaml: the stages as a DVC pipeline")
    dvc.add_argument("--workdir", default=DEFAULT_WORKDIR, metavar="DIR", help="(%(default)s)")
    dvc.add_argument("--config", default="params.yaml", metavar="FILE", help="(%(default)s)")
    dvc.add_argument("--quiet", action="store_true", help="show only warnings and errors")
    dvc.add_argument(
        "--inputs",
        action="append",
        default=[],
        metavar="PATH",
        help="file or folder with data or weights, on which stages that read data depend",
    )
    for command in (run, budget, *stages.values()):
        command.add_argument(
            "--workdir",
            default=DEFAULT_WORKDIR,
            metavar="DIR",
            help="where stages leave their folders, or a URL such as s3://bucket/run "
            "(default: %(default)s)",
        )
    for command in (run, budget, params, *stages.values()):
        command.add_argument(
            "--config",
            metavar="FILE",
            help="parameters in YAML (default: built-in; for one stage, those of the last run)",
        )
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="SECTION.KEY=VALUE",
            help="override one parameter; may be given several times",
        )
        command.add_argument("--quiet", action="store_true", help="show only warnings and errors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
