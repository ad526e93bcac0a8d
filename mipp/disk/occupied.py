"""One run at a time in a work directory, and what the second one is told."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields

from mipp.disk.faults import disk_faults_told
from mipp.disk.manifest import json_object
from mipp.disk.storage import Workdir
from mipp.disk.whole_files import locked, write_whole
from mipp.errors import StorageError, WorkdirError

LOCK, OWNER = ".run.lock", ".run.json"
BEAT = 30.0  # seconds between two signs of life
LATEST = 1e11  # seconds since the epoch that a calendar knows
DEAD = 5 * BEAT  # without one, on another machine; clocks may differ by some of it


@dataclass(frozen=True)
class Owner:
    """Who runs in a work directory."""

    what: str
    pid: int
    host: str
    since: float  # seconds since the epoch
    alive: float  # the last sign of life, on the owner's clock

    def __str__(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.what} (process {self.pid} on {self.host}, since {began})"


@contextmanager
def occupied(workdir: Workdir, what: str) -> Iterator[None]:
    """Nobody else runs in this work directory meanwhile, whichever door they came by.

    On one machine the system's lock decides, which ends with its process. Between machines that
    share a folder or a URL the owner gives a sign of life every 30 seconds; one that has given
    none for two and a half minutes counts as dead. Two that start in the same moment on different
    machines may both get in: neither object stores nor every network file system can tell.

    Parameters
    ----------
    what : runs, for who comes second.

    Raises
    ------
    WorkdirError : another run is in it; says whose.
    StorageError : the disk is full, read-only or failing, now or while the run lasts.
    """
    with ExitStack() as stack:
        stack.enter_context(disk_faults_told(workdir.folder))
        try:
            stack.enter_context(locked(workdir.folder / LOCK, wait=False))
        except BlockingIOError:
            raise _refusal(workdir, _owner(workdir)) from None
        owner = _owner(workdir)
        if owner and owner.host != platform.node() and time.time() - owner.alive < DEAD:
            raise _refusal(workdir, owner)
        stack.enter_context(_signs_of_life(workdir, what))
        yield


def _refusal(workdir: Workdir, owner: Owner | None) -> WorkdirError:
    return WorkdirError(
        f"work directory {workdir} is in use.\nExpected no other run in it, got "
        f"{owner or 'one that is just starting'}; wait for its end, or give another --workdir "
        "(with --from, it shares what does not change)."
    )


def _owner(workdir: Workdir) -> Owner | None:
    values = json_object(workdir.current(OWNER) or b"")
    if values.keys() != {field.name for field in fields(Owner)}:
        return None  # there is none, or it is damaged
    numbers = [values[key] for key in ("pid", "since", "alive")]
    whole = all(isinstance(one, (int, float)) and 0 <= one < LATEST for one in numbers)
    return Owner(**values) if whole else None


@contextmanager
def _signs_of_life(workdir: Workdir, what: str) -> Iterator[None]:
    began, over = time.time(), threading.Event()

    def sign() -> None:
        owner = Owner(what, os.getpid(), platform.node(), began, time.time())
        write_whole(workdir.folder / OWNER, json.dumps(asdict(owner)))
        workdir.keep_file(OWNER)

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                sign()
            except Exception:  # a sign that could not be given says nothing about the run
                continue

    sign()
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(StorageError):  # what stays there counts as dead soon; the run is done
            workdir.remove_file(OWNER)
