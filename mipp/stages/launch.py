"""A stage that several processes of this machine run between them, and what becomes of them.

Each is `python -m mipp.stages.rank`. Where one dies the others end too, and the caller is told once
which it was; where the caller dies, they end by themselves.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mipp.config import dump_params
from mipp.device import threads_each
from mipp.process.ranks import loopback, meeting_place
from mipp.stages.context import Context
from mipp.stages.endings import GRACE, Ending, raise_first
from mipp.stages.launch_on_ray import drives_cluster, launch_on_ray
from mipp.training.history import EpochRecord


def job_of(stage: str, context: Context) -> dict[str, Any]:
    """What every process of a stage is told, as JSON takes it."""
    return {
        "stage": stage,
        "workdir": context.workdir.address,
        "out": str(context.out.resolve()),
        "key": context.key,
        "params": dump_params(context.params),
    }


def launch(stage: str, context: Context) -> None:
    """Run a stage's body by `compute.devices` processes; the first fills its folder.

    They are of this machine, or of a Ray cluster that this process drives.

    Raises
    ------
    LostRankError : one of them was killed.
    MippError : what one of them raised.
    RuntimeError : one of them failed otherwise; with its traceback.
    """
    if context.params.compute.runner == "ray" and drives_cluster():
        launch_on_ray(stage, job_of(stage, context), context)
        return
    size = context.params.compute.devices
    place = meeting_place()
    known = (
        loopback()
        | os.environ
        | {
            "MIPP_RANKS_PORT": str(place.port),  # type: ignore[attr-defined]
            "WORLD_SIZE": str(size),
            "OMP_NUM_THREADS": str(threads_each(size)),
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }
    )
    with _started(size, known, json.dumps(job_of(stage, context))) as processes:
        endings = _watched(processes, stage, context)
    raise_first(endings, stage)


@contextmanager
def _started(
    size: int, known: Mapping[str, str], job: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """The processes, told what to do; none of them is left after the block."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for rank in range(size):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = subprocess.Popen(
                [sys.executable, "-m", "mipp.stages.rank"],
                env={**known, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(process)
            assert process.stdin is not None
            process.stdin.write(f"{job}\n")
            process.stdin.flush()  # and it stays open: where it ends, its process does
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


def _watched(processes: list[subprocess.Popen[str]], stage: str, context: Context) -> list[Ending]:
    """Hand epochs on until all have ended, or one has failed and the others have had their time."""
    lines: queue.Queue[tuple[int, str | None]] = queue.Queue()
    for rank, process in enumerate(processes):
        threading.Thread(target=_read, args=(process, rank, lines), daemon=True).start()
    said: list[dict[str, str]] = [{} for _ in processes]
    endings: list[Ending] = []
    until = float("inf")
    while len(endings) < len(processes) and time.monotonic() < until:
        try:
            rank, line = lines.get(timeout=0.5)
        except queue.Empty:
            continue
        if line is None:
            code = processes[rank].wait()
            endings.append(Ending(rank, processes[rank].pid, _how(code), said[rank]))
            if code:
                until = min(until, time.monotonic() + GRACE)
        elif "epoch" in (told := json.loads(line)):
            if context.on_epoch is not None:
                context.on_epoch(stage, EpochRecord(**told["epoch"]))
        else:
            said[rank] = told
    return endings


def _read(
    process: subprocess.Popen[str], rank: int, lines: queue.Queue[tuple[int, str | None]]
) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put((rank, line))
    lines.put((rank, None))


def _how(code: int) -> str:
    if code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"ended by itself with exit code {code}" if code else ""
