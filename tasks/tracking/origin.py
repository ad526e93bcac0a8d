"""What a run came from: the commit of the code and the state of the versioned data."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mipp.origin import commit


def origin_tags(folder: Path) -> dict[str, str]:
    """Tags `commit`, of the code, and `dvc.lock`, of a folder; each is left out without one."""
    tags = {"commit": commit(), "dvc.lock": lock_digest(folder)}
    return {name: value for name, value in tags.items() if value}


def lock_digest(folder: Path) -> str:
    """SHA-256 of `dvc.lock`: equal where code, data, parameters and results are equal."""
    lock = folder / "dvc.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else ""
