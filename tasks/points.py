"""Points of a sweep as Prefect tasks. A point's file decides whether there is work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from prefect import task
from prefect.cache_policies import NO_CACHE

from mipp.experiments.engine import result_file
from mipp.experiments.points import Point
from mipp.experiments.sweep import attempt
from tasks.tracking import fail_run, tracked_run

_pools: list[Executor] = []  # the pool of the sweep that runs in this process


class Future(Protocol):
    """A point that is computed elsewhere, whichever runner does it."""

    def wait(self) -> None:
        """Return when its task has ended, well or not."""

    def result(self, *, raise_on_failure: bool) -> Any:
        """What the task returned, or the exception that ended it."""


@contextmanager
def computed_by(pool: Executor) -> Iterator[None]:
    """Points are computed by this pool inside the block; without one where their task runs.

    A network's first weights are drawn from torch's one global generator, so that points side by
    side need processes. Prefect's tasks on threads have none of their own, those on Ray do.
    """
    _pools.append(pool)
    try:
        yield
    finally:
        _pools.remove(pool)


@task(cache_policy=NO_CACHE, task_run_name="{point.name}")
def compute(root: Path, point: Point) -> str:
    """Compute a point unless it is there; why it failed, or ""."""
    return _attempt(root, point) or ""


def _attempt(root: Path, point: Point) -> str | None:
    return _pools[-1].submit(attempt, root, point).result() if _pools else attempt(root, point)


def log_outcome(root: Path, point: Point, parent: str, future: Future) -> bool:
    """Wait for a point and log it; whether it failed, or died with its process.

    In the flow's process: MLflow's address may only mean something there.
    """
    future.wait()  # of a worker that died, Ray's future only then knows the reason
    found = future.result(raise_on_failure=False)
    reason = found if isinstance(found, str) else f"{type(found).__name__}: {found}"
    log_point(root, point, parent, reason)
    return bool(reason)


def log_point(root: Path, point: Point, parent: str, failure: str | None) -> None:
    """Log a point's numbers, or its failure, as a child of the sweep's run."""
    file = result_file(root, point)
    address = str(file.resolve())
    with tracked_run(point.params, address, parent) as tracker:
        tracker.log_point(point.identity(), file)
    if failure:
        fail_run(point.params, address, failure)
