"""What a run came from: the commit of the code and the state of the versioned data."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path


def origin_tags(folder: Path) -> dict[str, str]:
    """Tags `commit` and `dvc.lock`; each is left out where the folder has none."""
    tags = {"commit": commit(folder), "dvc.lock": lock_digest(folder)}
    return {name: value for name, value in tags.items() if value}


def commit(folder: Path) -> str:
    """Commit that a folder's files are of, with `-dirty` after it where they differ."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return ""
    return done.stdout.strip()


def lock_digest(folder: Path) -> str:
    """SHA-256 of `dvc.lock`: equal where code, data, parameters and results are equal."""
    lock = folder / "dvc.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else ""
