"""A long sweep under a memory limit, killed at random: nothing grows, and all tables agree."""

import gc
import json
import random
import resource
import subprocess
import sys
import time

import psutil
import pytest
import torch
from mlflow import MlflowClient

from mipp.experiments.results import TABLE, read_table
from mipp.experiments.sweep import attempt, plan_sweep, run_sweep
from tests.faults.long_sweep import Watched, finished, write_spec
from tests.system.processes import prefect_server
from tests.untimed_rows import untimed

SEEDS, POINTS = 10, 200
KILLS, BEFORE = 6, 80  # kills, all before so many points are complete
LATE = 20  # points at the beginning and at the end of what is compared
GROWTH = 16  # MiB that points may add between these
ROOM, REPORT = 64, 512  # MiB of the memory limit: for points, and for the report of the sweep


class Sweep:
    """A flow of 200 points that is killed again and again, and then left to its end."""

    def __init__(self, folder, environment, generator):
        self.folder, self.root, self.environment = folder, folder / "root", environment
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.spec = write_spec(folder / "many.yaml", seeds=SEEDS, uri=self.uri)
        self.kills = [self._killed(generator) for _ in range(KILLS)]
        self.begun = finished(self.root)
        self.watched, self.exit = self._undisturbed()

    def _start(self):
        command = [sys.executable, "-m", "flows.sweep", str(self.spec), "--scale", "full"]
        with (self.folder / "log.txt").open("a") as log:
            return subprocess.Popen(
                [*command, "--root", "root"], cwd=self.folder, env=self.environment, stderr=log
            )

    def _killed(self, generator):
        """Kill the flow at any moment after some more points; how many are complete by then."""
        flow, more = self._start(), generator.randint(1, BEFORE // KILLS)
        wanted = finished(self.root) + more
        while finished(self.root) < wanted and flow.poll() is None:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 0.5))
        assert flow.poll() is None, "ended before it was killed"
        workers = psutil.Process(flow.pid).children()
        flow.kill()
        flow.wait()
        assert psutil.wait_procs(workers, timeout=60)[1] == [], "a worker outlived the flow"
        return finished(self.root)

    def _undisturbed(self):
        flow = self._start()
        watched, limited = Watched(flow.pid), False
        while flow.poll() is None:
            points = finished(self.root)
            watched.look(points)
            if not limited and points >= self.begun + LATE:
                limit_memory(watched)
                limited = True
            time.sleep(0.1)
        return watched, flow.wait()


def limit_memory(watched):
    """From now on no process may hold much more than it does."""
    for one in (watched.process, *watched.process.children()):
        room = REPORT if one is watched.process else ROOM
        most = one.memory_info().data + room * 2**20
        resource.prlimit(one.pid, resource.RLIMIT_DATA, (most, most))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    with prefect_server(folder / "home") as environment:
        return Sweep(folder, environment, random.Random(200))


def rows_of(root):
    return read_table(root / TABLE)[0]


def key_of(values):
    return tuple(str(values[name]) for name in ("budget", "method", "seed"))


def numbers_of(row):
    """What was measured of a point."""
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, (int, float)) and name not in ("seed", "budget_value")
    }


@pytest.mark.slow  # six minutes
def test_sweep_under_a_memory_limit_ends_after_kills_and_holds_no_more_than_it_began_with(
    sweep, record_property
):
    record_property("cases", POINTS)
    assert sweep.exit == 0, (sweep.folder / "log.txt").read_text()[-5000:]
    assert sorted(set(sweep.kills)) == sweep.kills  # each try got on
    assert sweep.begun <= BEFORE + KILLS
    compared = 0
    for pid, samples in sweep.watched.samples.items():
        if samples[-1][0] < POINTS:
            continue  # it ended long before
        early = sweep.watched.between(pid, sweep.begun + LATE, sweep.begun + 2 * LATE)
        late = sweep.watched.between(pid, POINTS - LATE, POINTS)
        for name in ("MiB", "resident MiB"):
            assert late[name] < early[name] + GROWTH, (early, late)
        for name in ("handles", "threads"):
            assert abs(late[name] - early[name]) <= 1, (early, late)
        compared += 1
    assert compared >= 2  # the flow, and the process that computes points


@pytest.mark.slow
def test_table_folders_and_mlflow_of_a_killed_sweep_agree_to_the_row(sweep):
    rows = rows_of(sweep.root)
    files = {file.stem: json.loads(file.read_text()) for file in sweep.root.glob("points/*.json")}
    assert len(rows) == len(files) == POINTS
    assert not [*(sweep.root / "work").iterdir(), *sweep.root.rglob("*.partial-*")]
    assert len([*sweep.root.glob("shared/train-*")]) == SEEDS

    client = MlflowClient(sweep.uri)
    runs = client.search_runs([client.get_experiment_by_name("mipp").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    logged = {key_of(run.data.tags): run.data.metrics for run in children}
    assert len(logged) == len(children) == POINTS
    for row in rows:
        (file,) = [one for one in files.values() if key_of(one) == key_of(row)]
        numbers = numbers_of(row)
        assert {k: float(file[k]) for k in numbers} == numbers
        found = logged[key_of(row)]
        assert {k: found[k] for k in numbers} == pytest.approx(numbers), row


@pytest.mark.slow
def test_points_of_a_killed_sweep_are_those_of_an_undisturbed_one(sweep, tmp_path):
    plan = plan_sweep(write_spec(tmp_path / "one.yaml"), "full", tmp_path / "one")
    assert run_sweep(plan, tmp_path / "one") == []
    killed = [row for row in rows_of(sweep.root) if row["seed"] == 0]
    assert [untimed(row) for row in killed] == [untimed(row) for row in rows_of(tmp_path / "one")]


@pytest.mark.slow
def test_a_process_holds_no_more_after_more_points(tmp_path):
    def holds():
        gc.collect()
        kinds = (torch.nn.Module, torch.Tensor)
        alive = [isinstance(one, kinds) for one in gc.get_objects()]
        return sum(alive), psutil.Process().num_fds(), psutil.Process().num_threads()

    file = write_spec(tmp_path / "few.yaml", ["l1", "l2"])
    held = []
    for point in plan_sweep(file, "full", tmp_path / "root").grid[:6]:
        assert attempt(tmp_path / "root", point) is None
        held.append(holds())
    assert held[-1] == held[2]
    assert finished(tmp_path / "root") == 6
