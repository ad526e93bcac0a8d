"""Promises are tests that there are, and rows are what pytest reports of them."""

import ast
from pathlib import Path

import pytest

from benchmarks.validation.promises import PROMISES, Promise
from benchmarks.validation.reliability import FILE, measure, points

ROOT = Path(__file__).parents[2]
TESTS = """
import time

import pytest

def test_many(record_property):
    record_property("cases", 40)

@pytest.mark.slow
def test_one():
    time.sleep(0.2)  # more than seconds are rounded to

def test_wrong():
    assert False

@pytest.mark.skip(reason="none here")
def test_left_out(record_property):
    record_property("cases", 100)
"""


def test_rows_count_cases_failures_and_skipped_tests_slow_ones_too(tmp_path):
    (tmp_path / "test_theirs.py").write_text(TESTS)
    row = measure(Promise("theirs", "Holds.", (f"{tmp_path}/test_theirs.py",)), processes=1)
    assert row["promise"] == "theirs"
    assert (row["cases"], row["failures"], row["skipped"]) == (42, 1, 1)
    assert row["seconds"] >= 0.2


@pytest.mark.slow  # another process of pytest
def test_a_promise_without_tests_is_no_row(tmp_path):
    with pytest.raises(RuntimeError, match="theirs: "):
        measure(Promise("theirs", "Holds.", (f"{tmp_path}/none.py",)), processes=1)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
def test_every_test_of_a_promise_is_there(promise):
    for test in promise.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists(), file
        if name:
            tree = ast.parse((ROOT / file).read_text())
            assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, test


def test_names_tell_promises_apart():
    assert len({promise.name for promise in PROMISES}) == len(PROMISES)


def test_no_promise_that_was_tried_is_broken():
    assert [row for row in points(ROOT / FILE).all() if row["failures"]] == []
