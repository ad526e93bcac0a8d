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


def text_of_tracking(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stderr)
    list(track(range(3), total=3, label="train"))
    return stderr.getvalue()


@pytest.mark.parametrize("total", [3, None])
def test_items_pass_unchanged(total: int | None) -> None:
    assert list(track(iter("abc"), total=total, label="letters")) == ["a", "b", "c"]


def test_long_work_shows_label_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    text = text_of_tracking(monkeypatch, Terminal())
    assert "train:" in text
    assert "0/3 [00:00<" in text  # elapsed < left


def test_finished_bar_leaves_an_empty_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    text = text_of_tracking(monkeypatch, Terminal())
    assert text.split("\r")[-1] == ""
    assert text.split("\r")[-2].strip() == ""


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of_tracking(monkeypatch, Terminal())
    assert text.strip() == ""


def test_stderr_that_is_no_terminal_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    assert text_of_tracking(monkeypatch, io.StringIO()) == ""
