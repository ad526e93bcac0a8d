"""Faults of a disk, in words, wherever a run meets them: full, read-only, failing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mipp.disk.whole_files import PARTIAL
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


PERMISSIONS = (errno.EACCES, errno.EPERM)
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # what no reading answers


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
        paths = [Path(path) for one in _chain(error) for path in _named(one)]
        failed = _failed(number, paths, folder)
        place = next(iter(paths), folder)
        expected = (
            f"a file that the run in {folder} may read, got an error of its disk"
            if failed == "read"
            else f"a place for the results of a run in {folder}, got an error of its disk, which "
            f"has {free_space(folder):,} bytes free"
        )
        raise StorageError(
            f"{place} cannot be {failed}: {os.strerror(number)}.\nExpected {expected}; "
            f"{FAULTS[number]}, and run the same command again: it goes on where this one stopped."
        ) from error


def _named(error: BaseException) -> list[str | os.PathLike[str]]:
    """Paths that an error names, of a renaming both."""
    paths = (getattr(error, name, None) for name in ("filename", "filename2"))
    return [path for path in paths if isinstance(path, (str, os.PathLike))]


def _failed(number: int, paths: Sequence[Path], folder: Path) -> str:
    """What the first of these paths cannot be, as far as that can be told.

    A run writes under another name, and reads what is whole:

    work/.train.partial-7/a      written: it is not whole yet
    work/.run.lock               written: it is there for other runs
    data/train.parquet           read, where it is there and may not be read, or the disk fails
    """
    if number in WRITING or any(_is_own(path, folder) for path in paths):
        return "written"
    if not paths or number not in (errno.EIO, *PERMISSIONS):
        return "read or written"
    path, exists = paths[0], os.path.lexists(paths[0])
    if number == errno.EIO:
        return "read" if exists else "read or written"
    if exists:
        return "written" if os.access(path, os.R_OK) else "read"
    return "written" if os.access(path.parent, os.X_OK) else "read or written"


def _is_own(path: Path, folder: Path) -> bool:
    """Whether a path is one that runs write to while it has this name."""
    hidden = path.parent == folder and path.name.startswith(".")
    return hidden or any(PARTIAL in part for part in path.parts)


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
