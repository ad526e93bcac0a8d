"""A connection to the address of a work directory that drops at any time, for once or for good."""

import gc
import random
import shutil
from unittest import mock

import fsspec
import pytest
from conftest import NAMES

from mipp.disk import storage
from mipp.disk.storage import Workdir
from tests.s3_server import KNOWN, Proxy, needs_s3, s3_server

SAMPLE = 2  # calls of a command, in the default tests
CUTS = 12  # of connections to the S3 server, for once and for good each
STAGE = "choose"


class Dropping:
    """A file system whose calls fail from one of them on, or that one alone."""

    def __init__(self, files, at=None, good=False):
        self.files, self.at, self.good, self.calls = files, at, good, 0

    def __enter__(self):
        self.patch = mock.patch.object(storage, "_filesystem", return_value=self)
        self.patch.start()

    def __exit__(self, *_):
        self.patch.stop()

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


class Machines:
    """Two machines that share what lies below an address, and nothing else."""

    def __init__(self, finished, base, folder, monkeypatch):
        self.finished, self.base, self.folder, self.patch = finished, base, folder, monkeypatch
        self.tried = 0

    def try_drop(self, drop):
        """A command on one machine while a connection drops, and the same on the other."""
        self.tried += 1
        url = f"{self.base}/{self.tried}"
        self._begin(url)
        with drop:
            code, said = self.finished.command(STAGE, url)
        if code:
            assert code == 2, said
            assert "cannot be reached" in said
        assert "Traceback" not in said
        self.patch.setenv("MIPP_CACHE", str(self.folder / f"elsewhere-{self.tried}"))
        assert self.finished.command(STAGE, url) == (0, "")
        there = Workdir.open(url).stage(STAGE)
        for name in ("selection.json", "nodes.parquet"):
            expected = (self.finished.folder / STAGE / name).read_bytes()
            assert (there / name).read_bytes() == expected

    def _begin(self, url):
        """The stages before the one that is tried lie there."""
        self.patch.setenv("MIPP_CACHE", str(self.folder / f"here-{self.tried}"))
        workdir = Workdir.open(url)
        for stage in NAMES[: NAMES.index(STAGE)]:
            shutil.copytree(self.finished.folder / stage, workdir.folder / stage)
            workdir.keep(stage)


@pytest.fixture
def machines(finished, tmp_path, monkeypatch):
    yield Machines(finished, f"memory://{tmp_path.name}", tmp_path, monkeypatch)
    fsspec.filesystem("memory").store.clear()


def dropping(at=None, good=False):
    return Dropping(fsspec.filesystem("memory"), at, good)


def calls_of(machines):
    counting = dropping()
    machines.try_drop(counting)
    return counting.calls


BOTH = pytest.mark.parametrize("good", [False, True], ids=["once", "for good"])


@pytest.mark.xdist_group("faults")  # one process makes the run
@BOTH
def test_a_drop_at_some_calls_changes_no_result(machines, good, record_property):
    numbers = random.Random(str(good)).sample(range(calls_of(machines)), SAMPLE)
    record_property("cases", len(numbers))
    for number in numbers:
        machines.try_drop(dropping(number, good))


@pytest.mark.slow
@BOTH
def test_a_drop_at_every_call_changes_no_result(machines, good, record_property):
    calls = calls_of(machines)
    record_property("cases", calls)
    for number in range(calls):
        machines.try_drop(dropping(number, good))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log.txt") as port:
        cutting = Proxy(port)
        yield cutting
        cutting.close()


@pytest.fixture
def machines_of_s3(finished, proxy, tmp_path, monkeypatch):
    files = pytest.importorskip("s3fs").S3FileSystem
    for name, value in (KNOWN | {"AWS_ENDPOINT_URL": proxy.address}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # of each call: more take longer, and hide cuts
    files.clear_instance_cache()
    bucket = tmp_path.name.replace("_", "-")
    fsspec.filesystem("s3").mkdir(bucket)
    yield Machines(finished, f"s3://{bucket}", tmp_path, monkeypatch)
    files.clear_instance_cache()
    gc.collect()  # sessions whose connections were cut complain here, and to no other test


@pytest.mark.slow
@needs_s3
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@BOTH
def test_a_cut_connection_to_an_s3_server_changes_no_result(
    machines_of_s3, proxy, good, record_property
):
    machines_of_s3.try_drop(proxy.cutting(None, good))
    numbers = random.Random(str(good)).sample(range(proxy.passed), CUTS)
    record_property("cases", CUTS)
    for number in numbers:
        machines_of_s3.try_drop(proxy.cutting(number, good))
