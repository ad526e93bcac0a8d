"""Whether what a file says that it holds fits into memory."""

from __future__ import annotations

from pathlib import Path

import torch

from mipp.device import free_bytes
from mipp.errors import DataError


def require_room(path: Path, size: int, what: str, mend: str) -> None:
    """Refuse what a few bytes of a file say that they unpack to, before room for it is made.

    Parameters
    ----------
    path, what : the file, and what it holds.
    mend : what to do about it.

    Raises
    ------
    DataError : fewer bytes are free.
    """
    free = free_bytes(torch.device("cpu"))
    if free is not None and size > free:
        raise DataError(
            f"image set {path} has no room in memory: {what}.\nExpected at most the {free:,} bytes "
            f"that are free, got {size:,}; {mend}."
        )
