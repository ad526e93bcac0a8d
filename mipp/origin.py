"""Where a result comes from: the revision of the source that computed it."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]  # the folder that mipp lies in


@cache
def commit() -> str:
    """Revision of this source, with -dirty where it was changed since; "" if git has none of it.

    An installed copy may lie below somebody's repository, whose revision says nothing of it. A
    copy that was sent to another machine is told its own in MIPP_COMMIT.
    """
    if told := os.environ.get("MIPP_COMMIT"):
        return told
    top = _git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != SOURCE:
        return ""
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str:
    """What git says, "" where there is no git or it refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCE), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
