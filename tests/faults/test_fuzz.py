"""Seeded hostile input of every kind: a right answer or an error in words, in bounded time."""

import pytest
from fuzz_files import checkpoints, selections, stores
from fuzz_inputs import command_lines, parameter_files, parameters
from fuzz_networks import calls, rows
from fuzz_sets import sets
from fuzzing import try_cases

from mipp.errors import DataError

CASES = {  # kind -> what makes its case in a folder, cases of the default tests, of all
    "parameters": (lambda folder: parameters, 200, 5000),
    "parameter files": (parameter_files, 20, 1200),
    "command lines": (lambda folder: command_lines(folder / "work"), 10, 600),
    "stores": (stores, 10, 800),
    "checkpoints": (checkpoints, 40, 1200),
    "image sets": (sets, 20, 600),
    "selections": (lambda folder: selections, 20, 500),
    "rows": (lambda folder: rows, 60, 1000),
    "calls": (lambda folder: calls, 10, 300),
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*quant.*:UserWarning"
)  # of torch, to hostile input


def require_answered(kind, count, folder, monkeypatch, record_property):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MIPP_CACHE", str(folder / "cache"))
    record_property("cases", count)
    assert try_cases(CASES[kind][0](folder), count) == {}


@pytest.mark.parametrize("kind", CASES)
def test_some_hostile_input_is_answered(kind, tmp_path, monkeypatch, record_property):
    require_answered(kind, CASES[kind][1], tmp_path, monkeypatch, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_hostile_input_is_answered(kind, tmp_path, monkeypatch, record_property):
    require_answered(kind, CASES[kind][2], tmp_path, monkeypatch, record_property)


def test_there_are_ten_thousand_cases():
    assert sum(every for _, _, every in CASES.values()) >= 10_000


def test_a_case_that_fails_or_says_too_little_is_told_of():
    def wrong(rng):
        kind = rng.choice(("assert", "other", "words", "helpful"))
        seen.append(kind)
        assert kind != "assert"
        if kind == "other":
            raise KeyError("traceback")
        raise DataError("no" if kind == "words" else "Expected images, got none.")

    seen = []
    found = try_cases(wrong, 20)
    assert set(seen) == {"assert", "other", "words", "helpful"}
    assert [number in found for number in range(20)] == [kind != "helpful" for kind in seen]


def test_a_case_that_hangs_is_told_of(monkeypatch):
    monkeypatch.setattr("fuzzing.SECONDS", 1)

    def hangs(rng):
        while True:
            rng.random()

    assert "TimeoutError" in try_cases(hangs, 1)[0]
