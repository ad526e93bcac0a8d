"""Faults of a disk, in words, wherever a run meets them: full, read-only, failing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mipp.errors import MippError, StorageError

FAULTS = {  # what a disk answers -> how to mend it
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "allow larger files",
    errno.EROFS: "make it writable",
    errno.EIO: "look after the disk",
    errno.EISDIR: "remove the folder that is in the file's place",
    errno.ENOTDIR: "remove the file that is in the folder's place",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
}


@contextmanager
def disk_faults_told(folder: Path) -> Iterator[None]:
    """Here a fault of the disk that a folder lies on ends in words that say how to go on.

    Libraries tell of it in ways of their own, which are looked through.

    Raises
    ------
    StorageError : in the place of an error that the disk is the reason of.
    """
    try:
        yield
    except MippError:
        raise
    except Exception as error:
        number = _answer(error)
        if number is None:
            raise
        named = (getattr(one, "filename", None) for one in _chain(error))
        place = next(filter(None, named), folder)
        raise StorageError(
            f"{place} cannot be written: {os.strerror(number)}.\nExpected a place for the results "
            f"of a run in {folder}, got an error of its disk, which has {free_space(folder):,} "
            f"bytes free; {FAULTS[number]}, and run the same command again: it goes on where this "
            "one stopped."
        ) from error


def _answer(error: BaseException) -> int | None:
    """The disk's answer that an error comes from, None for other errors."""
    for one in _chain(error):
        number = getattr(one, "errno", None)
        if number in FAULTS:
            return int(number)
        for number in FAULTS:  # of libraries in Rust: "... (os error 28)"
            if f"os error {number})" in str(one):
                return number
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def free_space(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
