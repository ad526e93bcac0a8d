"""One process of several that run a stage between them: python -m mipp.stages.rank

Its first line of input says what to do; where its input ends, whoever started it has died. Its
output has a line for each epoch, of rank 0, and a last one for an error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from mipp.config import WRITTEN, ComputeConfig, parse_params
from mipp.disk.storage import Workdir
from mipp.errors import ConfigError, LostRankError, MippError, as_written
from mipp.process.allocator import keep_freed_memory
from mipp.process.ranks import HOST, Ranks, is_launched, joined, meeting_place
from mipp.stages.context import Context, OnEpoch
from mipp.stages.pipeline import STAGES
from mipp.training import EpochRecord


def run_job(job: Mapping[str, Any], on_epoch: OnEpoch | None = None) -> None:
    """Run a stage's body as one of its processes; what others than rank 0 write is thrown away."""
    with TemporaryDirectory() as folder, as_written(WRITTEN):
        out = Path(folder) if Ranks.here().rank else Path(job["out"])
        params = parse_params(job["params"])
        workdir = Workdir.open(job["workdir"])
        STAGES[job["stage"]].body(Context(workdir, out, params, job["key"], on_epoch))


def follow() -> None:
    """Do what rank 0 does of several processes, until it has no more to do.

    Raises
    ------
    LostRankError : it has ended without a word.
    """
    while True:
        try:
            job = Ranks.here().told(None)
        except RuntimeError as error:  # torch has none of its own for a connection that closes
            raise LostRankError("rank 0 has ended, and with it the training.") from error
        if job is None:
            return
        run_job(job)


@contextmanager
def ranks_given(compute: ComputeConfig) -> Iterator[bool]:
    """Whether this process is to run the command; others that `torchrun` started follow it here.

    Raises
    ------
    ConfigError : so many were started as are not asked for.
    """
    if not is_launched():
        yield True
        return
    size = int(os.environ["WORLD_SIZE"])
    if size != compute.devices:
        raise ConfigError(
            f"{size} processes were started to train, compute.devices asks for {compute.devices}."
            f"\nExpected as many, got WORLD_SIZE={size}; set compute.devices={size}, or start "
            f"`torchrun --nproc-per-node {compute.devices}`."
        )
    with joined() as ranks:
        if ranks.rank:
            follow()
        yield ranks.rank == 0
        if ranks.rank == 0:
            ranks.told(None)


def main() -> None:
    """Run one stage, once; the exit code says whether that went well."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no line of ours
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    failure = outcome(job, lambda record: _say(lines, {"epoch": record}))
    if failure:
        _say(lines, failure)
        os._exit(1)  # threads of a connection that is lost may never end


def outcome(job: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, str]:
    """Run a job among the processes that the environment names; what went wrong, {} if nothing did.

    Parameters
    ----------
    tell : is told every epoch, on rank 0.
    """
    keep_freed_memory()
    rank, port = int(os.environ["RANK"]), int(os.environ["MIPP_RANKS_PORT"])
    if rank:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - one of them shows progress

    def told(stage: str, record: EpochRecord) -> None:
        tell(asdict(record))

    try:
        with joined(meeting_place(port, os.environ.get("MIPP_RANKS_HOST", HOST))):
            run_job(job, None if rank else told)
    except MippError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except Exception:
        return {"traceback": traceback.format_exc()}
    return {}


def _say(lines: IO[str], told: Mapping[str, Any]) -> None:
    lines.write(f"{json.dumps(told)}\n")
    lines.flush()


def _end_with_the_caller() -> None:
    os.read(0, 1)  # by no lock, which would be held when the interpreter ends
    os._exit(1)


if __name__ == "__main__":
    main()
