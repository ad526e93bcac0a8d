"""A sweep as a Prefect flow: points side by side, one MLflow run with a child per point.

python -m flows.sweep experiments/digits.yaml --scale smoke --root runs/digits

With `--set compute.runner=ray` points are computed on a cluster; all its machines see the root.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import Flow, flow, unmapped
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.runners import resources, task_runner
from flows.stopping import ends_on_ctrl_c
from mipp.bounds import Count, require_number
from mipp.config import ComputeConfig
from mipp.errors import ConfigError
from mipp.experiments.results import TABLE
from mipp.experiments.sweep import Plan, plan_sweep, save_results
from mipp.experiments.workers import start_workers
from mipp.process.exit_codes import exit_code
from tasks import points
from tasks.tracking import tracked_sweep


@flow(name="sweep", flow_run_name="{experiment}", validate_parameters=False)
def sweep(
    experiment: str,
    scale: str = "smoke",
    root: str = "runs/sweep",
    overrides: list[str] | None = None,
    only: list[str] | None = None,
    workers: int = 1,
) -> list[str]:
    """All points of an experiment that are not there yet; returns those that failed.

    Parameters
    ----------
    experiment : YAML file, such as experiments/digits.yaml.
    scale : smoke, small or full.
    root : folder for all that it makes.
    overrides : `section.key=value`, for every point.
    only : `column=value`, for a part of the grid.
    workers : points at once, each in a process of its own; on Ray the cluster decides.
    """
    folder = Path(root)
    plan = plan_sweep(Path(experiment), scale, folder, overrides or (), only or ())
    tracking, runner = plan.wanted[0].params.tracking, runner_of_points(compute_of(plan), workers)
    with tracked_sweep(f"{plan.name} {scale}", tracking, str(folder.resolve())) as tracker:
        run = flow_of_points(plan, folder, workers, tracker.run_id)
        failed = run.with_options(task_runner=runner)()
        save_results(plan, folder)
        tracker.log_sweep(folder)
    return failed


def flow_of_points(plan: Plan, root: Path, workers: int, parent: str) -> Flow[[], list[str]]:
    """A flow in which every point is a task, and which returns names of those that failed.

    It has no parameters: Prefect takes half a MiB of them, and 140 points are more.
    """

    @flow(name="points")
    def run_points() -> list[str]:
        with places_for_points(compute_of(plan), workers):
            done = points.compute.map(unmapped(root.resolve()), list(plan.wanted))
            found = zip(plan.wanted, done, strict=True)
            return [p.name for p, future in found if points.log_outcome(root, p, parent, future)]

    return run_points


def compute_of(plan: Plan) -> ComputeConfig:
    """Where the points of a sweep are computed."""
    return plan.wanted[0].params.compute


def runner_of_points(compute: ComputeConfig, workers: int) -> TaskRunner[Any]:
    """The runner of a sweep: a thread that waits for each process of its pool, or a cluster.

    Raises
    ------
    ConfigError : there are none at once; Ray is not installed, or is told how many.
    """
    require_number("--workers", workers, Count)
    if compute.runner != "ray":
        return ThreadPoolTaskRunner(max_workers=workers)
    if workers != 1:
        raise ConfigError(
            f"workers={workers} (--workers) has no effect with compute.runner=ray.\nExpected it to "
            f"be left out, got {workers}; a point takes compute.cpus_per_task cores and "
            "compute.gpus_per_task GPUs of the cluster, which says how many run at once."
        )
    return task_runner(compute)


@contextmanager
def places_for_points(compute: ComputeConfig, workers: int) -> Iterator[None]:
    """Processes for the points that are submitted in the block: a pool's, or the cluster's."""
    if compute.runner == "ray":
        with resources(compute):
            yield
    else:
        with start_workers(workers) as pool, points.computed_by(pool):
            yield


def main() -> int:
    """Run a sweep as a Prefect flow, without a server of your own."""
    parser = argparse.ArgumentParser(prog="python -m flows.sweep", description=main.__doc__)
    parser.add_argument("experiment", help="YAML file, such as experiments/digits.yaml")
    parser.add_argument("--scale", default="smoke", help="smoke, small, full (%(default)s)")
    parser.add_argument("--root", required=True, help="folder for all that it makes")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--only", action="append", default=[], metavar="COLUMN=VALUE")
    parser.add_argument("--workers", type=int, default=1, help="points at once (%(default)s)")
    options = parser.parse_args()
    with ends_on_ctrl_c():
        return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    scale, root, chosen = options.scale, options.root, (options.set, options.only)
    plan = plan_sweep(Path(options.experiment), scale, Path(root), *chosen)
    runner_of_points(compute_of(plan), options.workers)
    failed = sweep(options.experiment, scale, root, *chosen, options.workers)
    for name in failed:
        sys.stderr.write(f"failed: {name}\n")
    print(f"results: {Path(root) / TABLE}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
