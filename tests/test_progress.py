"""Progress is seen during long work, as a bar on a terminal and as lines elsewhere."""

from __future__ import annotations

import io
import logging
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


def test_short_work_without_a_terminal_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert text_of_tracking(monkeypatch, io.StringIO()) == ""


@pytest.mark.parametrize(
    ("total", "last"),
    [(5, "train: 4 of 5, 00:12 so far, about 00:03 left"), (None, "train: 4, 00:12 so far")],
)
def test_long_work_without_a_terminal_says_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, total: int | None, last: str
) -> None:
    clock = iter([0, 0, 3, 6, 9, 12])  # at the start, then at each item
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(track(range(5), total=total, label="train")) == [0, 1, 2, 3, 4]
    assert sys.stderr.getvalue() == last + "\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("stderr", [Terminal, io.StringIO])
def test_nothing_is_shown_where_messages_are_not(
    monkeypatch: pytest.MonkeyPatch, stderr: type[io.StringIO]
) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    assert "train" in text_of_tracking(monkeypatch, stderr())
    monkeypatch.setattr(logging.getLogger("mipp"), "level", logging.WARNING)
    text = text_of_tracking(monkeypatch, shown := stderr())
    progress.say("about a minute")
    assert (text, shown.getvalue()) == ("", "")
