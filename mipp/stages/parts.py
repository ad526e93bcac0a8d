"""Where the parts of a stage that workers do side by side wait until all are there."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from mipp.storage import forget

ATTEMPTS = ".attempts"  # a line per attempt: who works, or worked, on the part


def folder_of_parts(workdir: Path, stage: str, key: str) -> Path:
    """Folder of the parts of a stage that has this key."""
    return workdir / f"{_prefix(stage)}{key[:16]}"


def note_attempt(part: Path) -> None:
    """Leave a line beside a part that says who works on it: machine and process."""
    with part.with_suffix(ATTEMPTS).open("a") as file:
        file.write(f"{platform.node()} {os.getpid()}\n")


def forget_parts(workdir: Path, stage: str) -> None:
    """Remove all parts of a stage, those of other parameters too."""
    forget(workdir, _prefix(stage))


def _prefix(stage: str) -> str:
    return f".{stage}.parts-"
