"""Where a result comes from: the revision of the source that computed it."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path


@cache
def commit() -> str:
    """Revision of this source, with -dirty where it was changed since; "" outside a repository.

    A copy of the source that was sent to another machine is told its revision in MIPP_COMMIT.
    """
    if told := os.environ.get("MIPP_COMMIT"):
        return told
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
