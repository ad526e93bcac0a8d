"""Two runs in one work directory: the second is told whose the first is, or takes over."""

import json
import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from mipp.cli import main
from mipp.disk import occupied as module
from mipp.disk.occupied import BEAT, DEAD, LOCK, OWNER, occupied
from mipp.disk.storage import Workdir
from mipp.errors import StorageError, WorkdirError
from tests.light_process import LIGHT
from tests.smallest_run import SMALLEST

HOLDS = """
import sys, time
from pathlib import Path
from mipp.disk.occupied import occupied
from mipp.disk.storage import Workdir
with occupied(Workdir(Path(sys.argv[1])), "mipp run"):
    print("inside", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """A process of its own that runs in the work directory."""
    command = [sys.executable, "-c", LIGHT + HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "inside\n"
        yield process
        process.kill()


def options(workdir, command="run"):
    return [command, "--workdir", str(workdir), *(f"--set={one}" for one in SMALLEST)]


@pytest.mark.parametrize("command", ["run", "train"])
def test_the_second_run_is_told_whose_the_first_is(other, tmp_path, capsys, command):
    assert main(options(tmp_path, command)) == 2
    told = capsys.readouterr().err
    assert f"mipp run (process {other.pid} on {platform.node()}, since 20" in told
    assert "--workdir" in told
    assert not (tmp_path / "train").exists()


def test_the_flow_is_told_so_too(other, tmp_path):
    from flows.pipeline import pipeline

    settings = [*SMALLEST, "tracking.uri=null"]
    with pytest.raises(WorkdirError, match=f"process {other.pid}"):
        pipeline.fn(str(tmp_path), overrides=settings)
    assert not (tmp_path / "params.yaml").exists()


def test_a_killed_owner_lets_go(other, tmp_path):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert (tmp_path / OWNER).exists()
    with occupied(Workdir(tmp_path), "mine"):
        assert json.loads((tmp_path / OWNER).read_text())["what"] == "mine"
    assert not (tmp_path / OWNER).exists()


def test_an_error_of_the_run_is_its_own_and_lets_go(tmp_path):
    for _ in range(2):
        with pytest.raises(BlockingIOError, match="of mine"), occupied(Workdir(tmp_path), "first"):
            raise BlockingIOError("of mine")


def test_an_address_that_is_gone_at_the_end_fails_no_run(tmp_path, monkeypatch):
    def gone(self, name):
        raise StorageError("it cannot be reached")

    monkeypatch.setattr(Workdir, "remove_file", gone)
    with occupied(Workdir(tmp_path), "mine"):
        pass


def owned_elsewhere(folder, alive):
    owner = {"what": "mipp run", "pid": 7, "host": "elsewhere", "since": alive, "alive": alive}
    (folder / OWNER).write_text(json.dumps(owner))


def test_an_owner_on_another_machine_that_is_alive_is_respected(tmp_path):
    owned_elsewhere(tmp_path, time.time() - BEAT)
    with pytest.raises(WorkdirError, match="process 7 on elsewhere"):
        occupied(Workdir(tmp_path), "mine").__enter__()


SIGN = {"what": "a run", "pid": 7, "host": "elsewhere", "since": 1.0, "alive": 1e12}
LEFT = {
    "damaged": "{",
    "of another version": '{"who": "me"}',
    "a list": "[]",
    "nested without end": "[" * 100_000,
    "a word for a time": json.dumps({**SIGN, "alive": "now"}),
    "a time that never comes": json.dumps(SIGN),
    "a number for a host": json.dumps({**SIGN, "host": 3, "alive": None}),
}


@pytest.mark.parametrize("owner", ["dead", *LEFT])
def test_what_a_dead_owner_left_is_taken_over(tmp_path, owner):
    owned_elsewhere(tmp_path, time.time() - DEAD - 1)
    if owner != "dead":
        (tmp_path / OWNER).write_text(LEFT[owner])
    with occupied(Workdir(tmp_path), "mine"):
        assert json.loads((tmp_path / OWNER).read_text())["what"] == "mine"


def test_signs_of_life_are_given_until_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    with occupied(Workdir(tmp_path), "mine"):
        seen = {json.loads((tmp_path / OWNER).read_text())["alive"]}
        until = time.time() + 120
        while len(seen) < 3 and time.time() < until:
            seen.add(json.loads((tmp_path / OWNER).read_text())["alive"])
    assert len(seen) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == [LOCK]
