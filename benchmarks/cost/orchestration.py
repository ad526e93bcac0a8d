"""What orchestration costs: the digits run as a flow beside the same stages called plainly.

Whole processes are timed, in turns, so that all of them meet the same load. A fanned-out pair is
timed on states that wait in the work directory already: what remains is Prefect's own time.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from prefect import flow, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from benchmarks.shared.command import circumstances, parse, parser
from benchmarks.shared.kept import RESULTS, write_json
from benchmarks.shared.tables import print_table
from flows import services
from mipp.config import Params, load_params
from mipp.disk.storage import Workdir
from mipp.progress import track
from mipp.stages import STAGES, pending_pairs, run_pair, run_stage
from tasks import steps
from tasks.pages import follow

FILE = RESULTS / "orchestration.json"
PLAIN = ("-m", "mipp", "run")
FLOW = ("-m", "flows.pipeline")
TARGETS = {"flow, no server": 12.0, "flow, server": 4.0}  # seconds over plain
PAIR_TARGET = 100.0  # ms
QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
UNTRACKED = "tracking.uri=null"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.orchestration", __doc__ or "")
    options.add_argument("--repeats", type=int, default=3, help="of each way")
    options.add_argument("--pairs", type=int, default=200, help="fanned out")
    options.add_argument("--port", type=int, default=4299, help="of the server that is started")
    return parse(options, given)


def seconds_of(command: Sequence[str], uri: str | None, api: str | None) -> tuple[float, float]:
    """Wall and processor time of a whole process that runs the digits in a folder of its own.

    On a busy machine the second, which includes what the process started, says more.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = ["--workdir", f"{folder}/work"]
        tracking = UNTRACKED if uri is None else f"tracking.uri=sqlite:///{folder}/{uri}"
        environment = {**os.environ, **QUIET} | ({"PREFECT_API_URL": api} if api else {})
        started, used = time.perf_counter(), _processor_seconds()
        subprocess.run(
            [sys.executable, *command, *where, "--set", tracking],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - started, _processor_seconds() - used


def _processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def server(port: int) -> Iterator[str]:
    """A Prefect server with an empty database; gives the address of its API."""
    api = f"http://127.0.0.1:{port}/api"
    services.require_free(port, "--port")
    with tempfile.TemporaryDirectory() as home:
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        known = {**QUIET, "PREFECT_HOME": home, "PREFECT_API_URL": api}
        services.start("benchmark", [sys.executable, "-m", *command], known)
        try:
            services.wait_for("benchmark", f"{api}/health")
            yield api
        finally:
            services.stop("benchmark")


def ways(api: str) -> dict[str, Callable[[], tuple[float, float]]]:
    """The same work, with more and more around it."""
    return {
        "plain": lambda: seconds_of(PLAIN, None, None),
        "flow, no server": lambda: seconds_of(FLOW, None, None),
        "flow, server": lambda: seconds_of(FLOW, None, api),
        "flow, server, MLflow": lambda: seconds_of(FLOW, "mlflow.db", api),
    }


@flow(name="fan-out")
def fan_out(address: str, params: Params, pairs: list[str]) -> None:
    """What the pipeline does with its pairs."""
    found = steps.estimate.map(unmapped(address), unmapped(params), pairs)
    follow(found, "layer pairs", "mipp-pairs")


def ms_per_pair(count: int) -> float:
    """Of a pair that is estimated already, on two threads, the flow's own start taken off."""
    params = load_params(overrides=["train.epochs=0", UNTRACKED])
    run = fan_out.with_options(
        task_runner=ThreadPoolTaskRunner(max_workers=2), validate_parameters=False
    )
    with tempfile.TemporaryDirectory() as folder:
        workdir = Workdir(Path(folder))
        for stage in ("train", "extract"):
            run_stage(STAGES[stage], workdir, params)
        pairs = pending_pairs(workdir, params)
        for pair in pairs:
            run_pair(workdir, params, pair)
        many = [pairs[i % len(pairs)] for i in range(count)]
        run(workdir.address, params, many[:1])  # the first of a process connects to the server
        started = time.perf_counter()
        run(workdir.address, params, many[:1])
        one = time.perf_counter()
        run(workdir.address, params, many)
        return 1000 * (time.perf_counter() - one - (one - started)) / (count - 1)


def row(name: str, timed: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """Medians of one way, and what it takes beyond the plain one."""
    wall, used = map(statistics.median, zip(*timed[name], strict=True))
    plain, plain_used = map(statistics.median, zip(*timed["plain"], strict=True))
    return {
        "way": name,
        "seconds": wall,
        "over plain": wall - plain,
        "ratio": wall / plain,
        "processor s": used,
        "processor over plain": used - plain_used,
        "target": TARGETS.get(name),
    }


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)  # of this process; a pipeline's own are its own
    with server(options.port) as api:
        timed: dict[str, list[tuple[float, float]]] = {name: [] for name in ways(api)}
        for _ in track(range(options.repeats), total=options.repeats, label="all ways"):
            for name, seconds in ways(api).items():
                timed[name].append(seconds())
        os.environ["PREFECT_API_URL"] = api
        pair = ms_per_pair(options.pairs)
    rows = [row(name, timed) for name in timed]
    print_table(rows)
    print(f"{pair:.1f} ms per fanned-out pair on threads (target {PAIR_TARGET:.0f})")
    results = {"rows": rows, "all": timed, "ms_per_pair": pair, **circumstances(options)}
    if options.write:
        write_json(FILE, results)


if __name__ == "__main__":
    main()
