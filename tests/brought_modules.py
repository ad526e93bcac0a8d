"""A module of somebody's own in the folder that a test starts in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def module_brought(folder: Path, name: str, source: str) -> Iterator[Path]:
    """Start in a folder with this module; what was imported is forgotten again."""
    (folder / f"{name}.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [entry for entry in sys.path if entry])
        yield folder
        sys.modules.pop(name, None)
