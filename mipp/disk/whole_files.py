"""Files and folders of which others see all or nothing, and files that one process holds."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mipp.errors import StorageError

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:  # no Windows
    msvcrt = None  # type: ignore[assignment]

PARTIAL = ".partial-"  # within the name of what is not whole yet
_PAUSE = 0.1  # seconds between two tries of a lock that cannot be waited for


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place beside a file, or a folder, that becomes it when the block ends without error.

    Whoever reads sees all of it or what was there before, after a loss of power too; a folder that
    is replaced is absent for a moment. What killed processes of this machine left is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(
        f".{path.name}{PARTIAL}{os.getpid()}-{threading.get_ident()}-{platform.node()}"
    )
    _remove(partial)  # of ours, which a disk did not let go, or of a dead process of our number
    try:
        yield partial
        if partial.is_dir():
            _replace_folder(partial, path)
        else:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        _remove(partial)


def _replace_folder(partial: Path, path: Path) -> None:
    """Rename over an old folder; a kill in between leaves none, never half of one."""
    old = path.with_name(f"{partial.name}-old")
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        os.rename(path, old)
    os.rename(partial, path)
    _remove(old)


def _sweep(path: Path) -> None:
    for partial in path.parent.glob(f".{glob.escape(path.name)}{PARTIAL}*"):
        process, _, machine = partial.name.partition(PARTIAL)[2].split("-", 2)
        if machine.removesuffix("-old") != platform.node():
            continue
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            _remove(partial)
        except PermissionError:
            continue  # alive, and another user's


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that appears complete."""
    with written_whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """One process of this machine at a time is inside; a killed one lets go.

    Raises
    ------
    StorageError : this system cannot lock files.
    BlockingIOError : without `wait`, another one is inside.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        _hold(file, wait)
        yield


def _hold(file: IO[str], wait: bool) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    windows: Any = msvcrt
    if windows is None:
        raise StorageError(
            f"{file.name} cannot be locked.\nExpected a system with fcntl or msvcrt, got neither; "
            "work with one process, in a folder of this machine."
        )
    while True:
        try:
            windows.locking(file.fileno(), windows.LK_NBLCK, 1)
            return
        except OSError as error:  # another process holds it
            if not wait:
                raise BlockingIOError(*error.args) from error
            time.sleep(_PAUSE)
