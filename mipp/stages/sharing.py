"""Stage folders of another work directory, used where they lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mipp.disk.storage import Workdir
from mipp.disk.workdir import MANIFEST
from mipp.errors import WorkdirError

SHARED = ("train", "extract", "estimate")  # what runs of other methods and budgets have in common


def share_stages(workdir: Path, other: Workdir) -> None:
    """Link what this work directory lacks of the stages before the choice.

    A linked stage that other parameters made is not up to date: it is made here, and the link
    goes. The other work directory is never written to; of one behind a URL the mirror is linked.

    Raises
    ------
    WorkdirError : the other one has no such stage, or is the same.
    """
    folders = {stage: other.stage(stage) for stage in SHARED}
    found = {stage: folder for stage, folder in folders.items() if (folder / MANIFEST).is_file()}
    if not found or other.folder.resolve() == workdir.resolve():
        raise WorkdirError(
            f"work directory {other} (--from) has nothing to share.\nExpected another one with "
            f"{other}/{SHARED[0]}/{MANIFEST}, got {'the same' if found else 'none'}; give the work "
            "directory of a run of the same network."
        )
    link_stages(workdir, found)


def link_stages(workdir: Path, folders: Mapping[str, Path]) -> None:
    """Make stage folders that lie elsewhere part of a work directory that lacks them."""
    workdir.mkdir(parents=True, exist_ok=True)
    for stage, folder in folders.items():
        place = workdir / stage
        if not place.exists():
            place.unlink(missing_ok=True)  # a link to what has gone
            place.symlink_to(os.path.relpath(folder, workdir), target_is_directory=True)
