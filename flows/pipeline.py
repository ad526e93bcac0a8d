"""The everyday way: all stages as one Prefect flow, layer pairs fanned out, tracked in MLflow.

python -m flows.pipeline --set choose.budget=macs:0.5
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from prefect import Flow, State, flow, tags, unmapped
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from flows.runners import resources, task_runner
from flows.stopping import ends_on_ctrl_c
from mipp.commands.arguments import add_json, add_params, add_workdir
from mipp.commands.run import show_result
from mipp.config import Params, load_params, write_params
from mipp.disk.occupied import occupied
from mipp.disk.storage import Workdir
from mipp.disk.workdir import require_writable
from mipp.process.allocator import keep_freed_memory
from mipp.process.exit_codes import exit_code
from mipp.stages import preflight
from tasks import steps
from tasks.failures import HOURS, record_failure
from tasks.pages import follow
from tasks.titles import limiting_tags, run_title
from tasks.tracking import Tracker, tracked_run, watched_machine


def name_run() -> str:
    """What this run prunes, for Prefect's list of runs."""
    return run_title(flow_run.parameters)


def record(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Leave the reason in MLflow and as an artifact when a run does not complete.

    A worker, after a crash, passes these by name.
    """
    record_failure(flow_run.id, flow_run.parameters, state.name or "Failed", state.message or "")


@flow(
    name="pipeline",
    flow_run_name=name_run,
    on_failure=[record],
    on_crashed=[record],
    on_cancellation=[record],
)
def pipeline(
    workdir: str = "work",
    config: str | None = None,
    overrides: list[str] | None = None,
    hours: float = HOURS,
    parent: str | None = None,
) -> None:
    """Data to pruned, fine-tuned network and report, in a work directory.

    Stages whose folder is complete and up to date are not run again.

    Parameters
    ----------
    workdir : folder that holds a folder per stage, or the URL of one.
    config : YAML file of parameters; the defaults without one.
    overrides : `section.key=value`, as for `mipp run --set`.
    hours : after which the run is stopped and fails; what is complete by then is kept.
    parent : MLflow run of the sweep that this run is a point of.
    """
    keep_freed_memory()
    params = load_params(config, overrides or ())
    runner = task_runner(params.compute)
    work = Workdir.open(workdir)
    require_writable(work)
    run = run_stages.with_options(task_runner=runner, timeout_seconds=hours * 3600)
    with occupied(work, f"flow {flow_run.name}"):
        steps.check(work, params)
        write_params(params, work.folder / "params.yaml")
        work.keep_file("params.yaml")
        _tracked(run, work, params, parent)


def _tracked(run: Flow[..., Any], work: Workdir, params: Params, parent: str | None) -> None:
    """The stages, as one MLflow run."""
    with (
        tags(*limiting_tags(params)),
        tracked_run(params, work.address, parent) as tracker,
        watched_machine(tracker),
    ):
        run(work, params, tracker)


@flow(name="stages", flow_run_name="stages in {workdir}", validate_parameters=False)
def run_stages(workdir: Workdir, params: Params, tracker: Tracker) -> None:
    """The stages in order; shards are extracted, and layer pairs estimated, side by side."""
    if tracker.uri is not None:
        steps.link(tracker)
    given = unmapped(workdir.address), unmapped(params)
    steps.run("train", workdir, params, tracker)
    shards = steps.list_shards(workdir, params)
    with resources(params.compute):
        follow(steps.extract.map(*given, shards), "shards", "mipp-shards")
    steps.run("extract", workdir, params, tracker)
    pairs = steps.list_pairs(workdir, params)
    with resources(params.compute):
        follow(steps.estimate.map(*given, pairs), "layer pairs", "mipp-pairs")
    for stage in ("estimate", "choose", "prune", "finetune", "evaluate", "report"):
        steps.run(stage, workdir, params, tracker)
    steps.publish(workdir.folder)


def main() -> int:
    """Run the whole pipeline as a Prefect flow, without a server of your own."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=main.__doc__)
    add_workdir(parser)
    add_params(parser)
    add_json(parser, "the metrics")
    options = parser.parse_args()
    with ends_on_ctrl_c():
        return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    params = load_params(options.config, options.set)
    task_runner(params.compute)
    workdir = Workdir.open(options.workdir)
    preflight(workdir, params)
    pipeline(options.workdir, options.config, options.set)
    print()
    show_result(workdir.folder, params, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
