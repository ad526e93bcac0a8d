"""How the processes of a stage ended, and the one error that the caller is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mipp.errors
from mipp.errors import LostRankError, MippError

GRACE = 5.0  # seconds in which the others may say what they saw of a failure


class Ending(NamedTuple):
    """How a process failed, "" if it did not, and what it said last, {} if nothing."""

    rank: int
    pid: int
    how: str
    said: Mapping[str, str]


def raise_first(endings: Sequence[Ending], stage: str) -> None:
    """What stopped the stage: a death before an error, as the others fail for want of it.

    Raises
    ------
    LostRankError : one of them died without a word.
    MippError : what one of them raised.
    RuntimeError : one of them failed otherwise; with its traceback.
    """
    failed = [ending for ending in endings if ending.how]
    for ending in failed:
        if not ending.said:
            raise LostRankError(
                f"rank {ending.rank} (process {ending.pid}) of stage {stage} {ending.how}, so the "
                "training has stopped; the same command goes on from the last epoch that was saved."
            )
    for ending in failed:
        if name := ending.said.get("error"):
            raise getattr(mipp.errors, name, MippError)(ending.said["text"])
    for ending in failed:
        raise RuntimeError(
            f"rank {ending.rank} of stage {stage} failed:\n{ending.said['traceback']}"
        )
