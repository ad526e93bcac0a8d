"""Who runs the tasks that a flow fans out: threads of this machine, or a Ray cluster.

The one module that imports prefect_ray, and only when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

import mipp
from mipp.config import ComputeConfig
from mipp.device import divided_threads, threads_each
from mipp.errors import ConfigError
from mipp.origin import commit
from mipp.process.allocator import keep_freed_memory

LIVES = 3  # times that a task starts anew after a worker or its machine has died


def task_runner(compute: ComputeConfig) -> TaskRunner[Any]:
    """The runner of a flow, for `flow.with_options(task_runner=...)`.

    Raises
    ------
    ConfigError : compute.runner=ray, and Ray is not installed.
    """
    if compute.runner == "ray":
        return _ray_runner(compute)
    workers = compute.workers if compute.runner == "threads" else 1
    return ThreadPoolTaskRunner(max_workers=workers)


@contextmanager
def resources(compute: ComputeConfig) -> Iterator[None]:
    """What each task that is submitted in the block holds while it runs."""
    if compute.runner != "ray":
        with divided_threads(compute.workers if compute.runner == "threads" else 1):
            yield
        return
    from prefect_ray.context import remote_options

    held = {"num_cpus": compute.cpus_per_task, "num_gpus": compute.gpus_per_task}
    with remote_options(**held, max_retries=LIVES), _one_server(compute.address):
        yield


@contextmanager
def _one_server(cluster: str | None) -> Iterator[None]:
    """Tasks that are submitted in the block report where this process does.

    Workers are told the address of a temporary server too, or each starts one for itself, which
    takes it ten seconds. A cluster elsewhere cannot reach it, and keeps its own settings.
    """
    if cluster is not None or PREFECT_API_URL.value():
        yield
        return
    with get_client(sync_client=True) as client:
        address = str(client.api_url)
    with temporary_settings({PREFECT_API_URL: address}):
        yield


def _ray_runner(compute: ComputeConfig) -> TaskRunner[Any]:
    if find_spec("prefect_ray") is None:
        raise ConfigError(
            "compute.runner=ray cannot work here: Ray is not installed.\nExpected the package "
            "prefect-ray, got none; run `pip install 'mipp-pruning[ray]'`, or set "
            "compute.runner=threads."
        )
    # before Ray is imported, which reads them then; a cluster of another mode says so itself
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner

    settings = {"runtime_env": _worker(compute.workers)}
    return RayTaskRunner(address=compute.address, init_kwargs=settings)


def _worker(workers: int) -> dict[str, Any]:
    """What Ray gives to its workers: this code, this folder, and as many threads as one has here.

    Sums are rounded in an order that depends on the number of threads. Data sets and weights may
    be named relative to the folder.
    """
    top = Path(mipp.__file__).parents[1]
    known = {"OMP_NUM_THREADS": str(threads_each(workers)), "MIPP_COMMIT": commit()}
    data = os.environ.get("MIPP_DATA")
    return {
        "py_modules": [str(top / name) for name in ("mipp", "tasks", "flows")],
        "env_vars": known | ({"MIPP_DATA": data} if data else {}),
        "worker_process_setup_hook": _begin_in(os.getcwd()),
    }


def _begin_in(folder: str) -> Callable[[], None]:
    def begin() -> None:
        with suppress(OSError):  # a machine that lacks it says itself what it does not find
            os.chdir(folder)
        keep_freed_memory()

    return begin
