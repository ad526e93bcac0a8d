"""A connection to the address of a work directory that drops at any call, for once or for good."""

import random
import shutil

import fsspec
import pytest
from conftest import NAMES

from mipp import storage
from mipp.storage import Workdir

SAMPLE = 2  # calls of a command, in the default tests
STAGE = "choose"


class Dropping:
    """A file system whose calls fail from one of them on, or that one alone."""

    def __init__(self, files, at=None, good=False):
        self.files, self.at, self.good, self.calls = files, at, good, 0

    def __getattr__(self, name):
        thing = getattr(self.files, name)
        return self._counted(thing) if callable(thing) else thing

    def _counted(self, call):
        def counted(*arguments, **keywords):
            self.calls += 1
            number = self.calls - 1
            if self.at is not None and (number >= self.at if self.good else number == self.at):
                raise ConnectionResetError("the connection was reset")
            return call(*arguments, **keywords)

        return counted


@pytest.fixture
def address(finished, tmp_path, monkeypatch):
    """Makes an address with the stages before the one that is tried; of a machine of its own."""
    files = fsspec.filesystem("memory")

    def make(number):
        monkeypatch.setenv("MIPP_CACHE", str(tmp_path / f"cache-{number}"))
        url = f"memory://{tmp_path.name}/{number}"
        workdir = Workdir.open(url)
        for stage in NAMES[: NAMES.index(STAGE)]:
            shutil.copytree(finished.folder / stage, workdir.folder / stage)
            workdir.keep(stage)
        return url

    yield make
    files.store.clear()


def try_drop(finished, address, monkeypatch, number, good):
    """A command whose connection drops, and the same from another machine; calls that it made."""
    url = address(number)
    dropping = Dropping(fsspec.filesystem("memory"), number, good)
    with monkeypatch.context() as patched:
        patched.setattr(storage, "_filesystem", lambda _: dropping)
        code, said = finished.command(STAGE, url)
    if code:
        assert code == 2, said
        assert "cannot be reached" in said
    assert "Traceback" not in said
    monkeypatch.setenv("MIPP_CACHE", f"{storage.cache_folder()}-elsewhere")
    assert finished.command(STAGE, url) == (0, "")
    there = Workdir.open(url).stage(STAGE)
    for name in ("selection.json", "nodes.parquet"):
        assert (there / name).read_bytes() == (finished.folder / STAGE / name).read_bytes()
    return dropping.calls


def count_calls(finished, address, monkeypatch):
    return try_drop(finished, address, monkeypatch, None, good=False)


@pytest.mark.xdist_group("faults")  # one process makes the run
@pytest.mark.parametrize("good", [False, True], ids=["once", "for good"])
def test_a_drop_at_some_calls_changes_no_result(
    finished, address, good, monkeypatch, record_property
):
    calls = count_calls(finished, address, monkeypatch)
    numbers = random.Random(str(good)).sample(range(calls), SAMPLE)
    record_property("cases", len(numbers))
    for number in numbers:
        try_drop(finished, address, monkeypatch, number, good)


@pytest.mark.slow
@pytest.mark.parametrize("good", [False, True], ids=["once", "for good"])
def test_a_drop_at_every_call_changes_no_result(
    finished, address, good, monkeypatch, record_property
):
    calls = count_calls(finished, address, monkeypatch)
    record_property("cases", calls)
    for number in range(calls):
        try_drop(finished, address, monkeypatch, number, good)
