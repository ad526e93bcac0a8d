"""Progress is seen on a terminal during long work, and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest

from mipp import progress
from mipp.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, delay: float) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "DELAY_SECONDS", delay)
    # tqdm draws at most every 0.1 s, so the last of the items must take longer than that.
    for item in track(range(3), total=3, label="train"):
        if item == 1:
            progress.tqdm.monitor_interval = 0
            _wait(0.15)
    return stream.getvalue()


def _wait(seconds: float) -> None:
    import time

    time.sleep(seconds)


@pytest.mark.parametrize("total", [3, None])
def test_items_pass_unchanged(total: int | None) -> None:
    assert list(track(iter("abc"), total=total, label="letters")) == ["a", "b", "c"]
