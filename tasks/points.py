"""Points of a sweep as Prefect tasks. A point's file decides whether there is work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mipp.experiments.engine import result_file
from mipp.experiments.points import Point
from mipp.experiments.sweep import attempt
from tasks.tracking import fail_run, tracked_run

_pools: list[Executor] = []  # the pool of the sweep that runs in this process


@contextmanager
def computed_by(pool: Executor) -> Iterator[None]:
    """Points are computed by this pool inside the block.

    A network's first weights are drawn from torch's one global generator, so that points side by
    side need processes, and Prefect's tasks here are threads.
    """
    _pools.append(pool)
    try:
        yield
    finally:
        _pools.remove(pool)


@task(cache_policy=NO_CACHE, task_run_name="{point.name}")
def compute(root: Path, point: Point, parent: str) -> str:
    """Compute a point unless it is there, and log it; the name of a point that failed, or ""."""
    reason = _pools[-1].submit(attempt, root, point).result()
    log_point(root, point, parent, reason)
    return point.name if reason else ""


def log_point(root: Path, point: Point, parent: str, failure: str | None) -> None:
    """Log a point's numbers, or its failure, as a child of the sweep's run."""
    file = result_file(root, point)
    with tracked_run(point.params, file, parent) as tracker:
        tracker.log_point(point.identity(), file)
    if failure:
        fail_run(point.params, file, failure)
