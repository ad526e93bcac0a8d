"""Where image sets lie: `data.root`, else MIPP_DATA, else ../shared/data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mipp.config import DataConfig
from mipp.errors import DataError


def places(root: str | None) -> tuple[Path, ...]:
    """Folders to look in, first to last; a given `data.root` is the only one."""
    if root is not None:
        return (Path(root).expanduser(),)
    named = os.environ.get("MIPP_DATA")
    return (*([Path(named).expanduser()] if named else []), Path("../shared/data"))


def find_folder(config: DataConfig, holds: Callable[[Path], bool], layout: str) -> Path:
    """Folder that `holds` the set; under MIPP_DATA or ../shared/data also the one sub-folder.

    Raises
    ------
    DataError : no such folder, or more than one.
    """
    for place in places(config.root):
        if holds(place):
            return place
        inside = place.iterdir() if config.root is None and place.is_dir() else ()
        found = sorted(folder for folder in inside if holds(folder))
        if len(found) > 1:
            raise DataError(
                f"data set {config.name!r} is ambiguous under {place}.\n"
                f"Expected one folder with {layout}, got {', '.join(f.name for f in found)}.\n"
                "Set data.root to the folder you mean."
            )
        if found:
            return found[0]
    raise missing_set(config, layout, "Set data.root, or the environment variable MIPP_DATA")


def missing_set(config: DataConfig, layout: str, remedy: str) -> DataError:
    """Error for a set that lies in none of the `places`, which it lists."""
    looked = ", ".join(str(place) for place in places(config.root))
    return DataError(
        f"data set {config.name!r} was not found.\n"
        f"Looked in {looked}: expected {layout}, got no such files.\n"
        f"{remedy}; data.name=digits needs no files at all."
    )
