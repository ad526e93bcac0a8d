"""Flow beside command in one work directory, sweep beside sweep over one root."""

import signal
import subprocess
import sys
import time

import pytest

from mipp.config import load_params
from mipp.disk.occupied import OWNER
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest
from mipp.experiments.results import TABLE, read_table
from mipp.experiments.sweep import plan_sweep, run_sweep
from mipp.stages import run_all
from tests.faults.long_sweep import finished, write_spec
from tests.smallest_run import SMALLEST
from tests.system.processes import prefect_server
from tests.untimed_rows import untimed

pytestmark = pytest.mark.slow  # minutes of whole processes
DOORS = {"flow": ["flows.pipeline"], "command": ["mipp", "run", "--quiet"]}
SAME = ("train", "extract", "estimate", "choose", "prune", "finetune")  # evaluate measures time
SECONDS = 600


def start(*arguments, **options):
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def finish(process):
    said = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """The environment of processes that use one Prefect server."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


class Runs:
    """Two runs of one work directory, by two doors and with a budget each."""

    def __init__(self, folder, known):
        self.folder, self.known, self.work = folder, known, folder / "work"

    def start(self, door, budget):
        given = (*SMALLEST, f"choose.budget={budget}", "tracking.uri=null")
        sets = [f"--set={one}" for one in given]
        arguments = [*DOORS[door], "--workdir", self.work, *sets]
        return start(*arguments, env=self.known, cwd=self.folder)

    def require(self, budget):
        """That all that was written is that of an undisturbed run with this budget."""
        alone = self.folder / budget.replace(":", "-")
        run_all(Workdir(alone), load_params(overrides=[*SMALLEST, f"choose.budget={budget}"]))
        for stage in SAME:
            assert read_manifest(self.work / stage) == read_manifest(alone / stage), stage


@pytest.mark.parametrize(("first", "second"), [("flow", "command"), ("command", "flow")])
def test_the_second_is_told_whose_the_first_is_and_what_each_writes_is_its_own(
    first, second, known, tmp_path
):
    runs = Runs(tmp_path, known)
    one = runs.start(first, "macs:0.3")
    while not (runs.work / OWNER).exists():
        assert one.poll() is None, one.communicate()[1]
        time.sleep(0.01)
    one.send_signal(signal.SIGSTOP)  # so that the second comes in its midst on any machine
    try:
        two = runs.start(second, "macs:0.8")
        told = two.communicate(timeout=SECONDS)[1]
    finally:
        one.send_signal(signal.SIGCONT)
    assert two.returncode == 2, told
    assert f"(process {one.pid} on " in told
    finish(one)
    runs.require("macs:0.3")
    finish(runs.start(second, "macs:0.8"))
    runs.require("macs:0.8")


@pytest.mark.parametrize("doors", [("mipp", "mipp"), ("mipp", "flows"), ("flows", "flows")])
def test_sweeps_over_one_root_share_their_points_and_leave_one_table(doors, known, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    spec = write_spec(tmp_path / "few.yaml", ["mipp", "l1"], (0.3, 0.5, 0.7), uri=uri)
    words = {"mipp": ["mipp", "sweep"], "flows": ["flows.sweep"]}
    options = [spec, "--scale", "full", "--root", "root"]
    both = [start(*words[door], *options, env=known, cwd=tmp_path) for door in doors]
    while not finished(tmp_path / "root"):
        assert [one.poll() for one in both] == [None, None]
        time.sleep(0.01)
    for one in both:
        finish(one)

    alone = tmp_path / "alone"
    assert run_sweep(plan_sweep(spec, "full", alone), alone) == []
    rows, expected = (read_table(root / TABLE)[0] for root in (tmp_path / "root", alone))
    assert [untimed(row) for row in rows] == [untimed(row) for row in expected]
    assert not [*(tmp_path / "root/work").iterdir(), *(tmp_path / "root").rglob("*.partial-*")]
    for name in ("report.md", "report.html"):
        assert (tmp_path / "root/report" / name).stat().st_size > 1000
