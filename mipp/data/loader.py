"""Batches made ahead of time by processes, those of torch's DataLoader, or in this one."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mipp.errors import DataError, MippError
from mipp.process.ranks import Ranks

SHARED_MEMORY = Path("/dev/shm")  # through which processes hand over what they made
AHEAD = 2  # batches of each process that wait
MOST = 8  # processes, where nobody says how many
WORTH_IT = 2**26  # bytes of pixels

Make = Callable[[Any], Tensor]


def count_workers(asked: int | None, batch: int, whole: int) -> int:
    """How many processes read for this one: its share of those that are asked for.

    Parameters
    ----------
    asked : for all processes of a training on this machine together; None for one for each core
        that this one may use, as far as shared memory holds their batches, and none for what is
        read sooner than they start.
    batch, whole : bytes of a batch, and of a pass.
    """
    beside = Ranks.here().here_beside
    if asked is None:
        return 0 if whole < WORTH_IT else _default_workers(batch, beside)
    return max(1, asked // beside) if asked else 0


def _default_workers(batch: int, beside: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    room = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 2**62
    return min(max(1, (cores or 1) // beside), MOST, room // (2 * beside * (AHEAD + 1) * batch))


class Loader:
    """Makes a tensor of each job, in the order of the jobs.

    Processes wait for the next pass. Of two passes at once, the second has processes of its own.

    Parameters
    ----------
    name : of the set, for errors.
    make : from a job to a tensor. Processes inherit it as it is when the first pass begins.
    workers : processes; with 0, or for a single job, all is made in this one when it is asked for.
    pinned : what processes make lies where a GPU copies it from beside other work.

    Example
    -------
    >>> list(Loader("numbers", torch.tensor, workers=0).made([1, 2]))
    [tensor(1), tensor(2)]
    """

    def __init__(self, name: str, make: Make, workers: int, *, pinned: bool = False) -> None:
        self._name, self._make, self._workers, self._pinned = name, make, workers, pinned
        self._free = threading.Lock()
        self._jobs = _Jobs()
        self._kept: list[DataLoader[Tensor]] = []  # at most one, with its processes
        # They end by their own order: collected as garbage together with the queues that they
        # wait at, each would take five seconds.
        weakref.finalize(self, self._kept.clear)

    def made(self, jobs: Sequence[Any]) -> Iterator[Tensor]:
        """What is made of each job.

        Raises
        ------
        DataError : a process ended. An error of mipp's that `make` raises comes as it is.
        """
        if self._workers == 0 or len(jobs) < 2:
            yield from map(self._make, jobs)
        elif self._free.acquire(blocking=False):
            try:
                yield from self._made_by_processes(jobs)
            finally:
                self._free.release()
        else:
            other = Loader(self._name, self._make, self._workers, pinned=self._pinned)
            yield from other.made(jobs)

    def _made_by_processes(self, jobs: Sequence[Any]) -> Iterator[Tensor]:
        self._jobs.jobs = jobs
        if not self._kept:
            self._kept.append(self._processes())
        try:
            with _handler_of_children_kept():
                batches = iter(self._kept[0])
            for made in batches:
                if isinstance(made, MippError):
                    raise made
                yield made
        except (RuntimeError, OSError, EOFError) as error:
            if str(error).startswith("Caught "):  # of `make`, as torch hands it on
                raise
            self._kept.clear()
            raise self._ended(error) from error

    def _processes(self) -> DataLoader[Tensor]:
        return DataLoader(
            _Made(self._make),
            batch_size=None,  # an item is a batch
            sampler=self._jobs,
            num_workers=self._workers,
            persistent_workers=True,
            prefetch_factor=AHEAD,
            pin_memory=self._pinned,
            generator=torch.Generator(),  # torch's own is the network's
        )

    def _ended(self, error: Exception) -> DataError:
        said = str(error) or type(error).__name__
        return DataError(
            f"a process that reads images of {self._name} has ended.\nExpected batches from "
            f"{self._workers} of them (data.workers), got: {said}; where memory ran out, or "
            f"{SHARED_MEMORY} is small, set a smaller data.workers, or 0 to read them in this one."
        )


class _Jobs:
    """Those of the pass at hand, in the form of a sampler."""

    jobs: Sequence[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)


class _Made(Dataset[Any]):
    """What is made of a job; of an error of mipp's the error, whose text torch would wrap."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def __getitem__(self, job: Any) -> Tensor | MippError:
        try:
            return self._make(job)
        except MippError as error:
            return error


@contextmanager
def _handler_of_children_kept() -> Iterator[None]:
    """torch's raises in the midst of whatever this process does when one of its own ends.

    Without it a pass notices within five seconds that a process is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # torch leaves it alone, too
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)
