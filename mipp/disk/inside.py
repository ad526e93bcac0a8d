"""Names that a file gives to other files: they lie in the folder that they are said to be in."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from mipp.errors import InputError


def require_inside(name: object, listed_in: object, error: type[InputError]) -> str:
    """The name, if it is of a file below some folder, on whichever system.

    Parameters
    ----------
    listed_in : the file or address that holds the name, for the error.
    error : raised where it is absolute, climbs by `..`, or is no name at all.

    Example
    -------
    >>> require_inside("deep/model.txt", "manifest.json", InputError)
    'deep/model.txt'
    """
    if isinstance(name, str) and _stays(name):
        return name
    raise error(
        f"{listed_in} names a file outside of its folder.\nExpected names below it, without '..' "
        f"and not absolute, got {name!r}; do not use it: mipp writes no such name."
    )


def leaves(folder: Path, path: Path) -> bool:
    """Whether links on the way to a file lead out of the folder that it is said to be in."""
    # not Path.resolve, which raises where a link leads to itself
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _stays(name: str) -> bool:
    kinds = PurePosixPath(name), PureWindowsPath(name)
    climbs = any(kind.anchor or ".." in kind.parts for kind in kinds)
    return bool(kinds[0].parts) and not climbs and name.isprintable()
