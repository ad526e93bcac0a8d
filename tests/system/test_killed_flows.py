"""A flow killed (-9) inside each stage, one after the other, over one work directory."""

import json
import subprocess
import time

import pytest
from mlflow import MlflowClient
from processes import TINY, flow_command, prefect_server

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest
from mipp.stages import STAGES, run_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
NAMES = tuple(STAGES)
MEASURED = ("latency", "seconds", "peak_rss")  # numbers that differ between any two runs
SECONDS = 240


def manifest_times(workdir):
    """When each complete stage was written; a stage that is made again has a later time."""
    return {
        stage: (workdir / stage / "manifest.json").stat().st_mtime_ns
        for stage in STAGES
        if (workdir / stage / "manifest.json").exists()
    }


def kill_inside(stage, workdir, command, **options):
    """Start a flow, kill it while a stage's folder is being filled; the signal's exit code."""
    flow = subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)
    deadline = time.monotonic() + SECONDS
    while flow.poll() is None and time.monotonic() < deadline:
        if any(workdir.glob(f".{stage}.partial-{flow.pid}-*")):
            flow.kill()
        time.sleep(0.001)
    flow.kill()
    return flow.wait()


class Cascade:
    """Kills in every stage in turn, then one flow that is left alone."""

    def __init__(self, folder, environment):
        self.workdir, self.uri = folder / "work", f"sqlite:///{folder / 'mlflow.db'}"
        command = flow_command(self.workdir, [*TINY, f"tracking.uri={self.uri}"])
        options = {"cwd": folder, "env": environment}
        self.exits, self.times = {}, {}
        for stage in STAGES:
            self.exits[stage] = kill_inside(stage, self.workdir, command, **options)
            self.times[stage] = manifest_times(self.workdir)
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS, **options
        )
        assert done.returncode == 0, done.stderr
        self.final = manifest_times(self.workdir)
        self.undisturbed = folder / "undisturbed"
        run_all(Workdir(self.undisturbed), load_params(overrides=TINY))


@pytest.fixture(scope="module")
def cascade(folder):
    with prefect_server(folder / "home") as environment:
        return Cascade(folder, environment)


@pytest.mark.parametrize("stage", NAMES)
def test_kill_leaves_the_stage_absent_and_those_before_it_complete(cascade, stage):
    assert cascade.exits[stage] == -9
    assert tuple(cascade.times[stage]) == NAMES[: NAMES.index(stage)]


@pytest.mark.parametrize("stage", NAMES)
def test_stages_before_the_kill_are_not_made_again(cascade, stage):
    before = cascade.times[stage]
    assert {name: cascade.final[name] for name in before} == before


@pytest.mark.parametrize("stage", NAMES[: NAMES.index("evaluate")])
def test_result_is_that_of_an_undisturbed_run(cascade, stage):
    killed = read_manifest(cascade.workdir / stage)
    assert killed is not None
    assert killed.outputs == read_manifest(cascade.undisturbed / stage).outputs


def test_numbers_are_those_of_an_undisturbed_run(cascade):
    def lasting(workdir):
        metrics = json.loads((workdir / "evaluate/metrics.json").read_text())
        exports = metrics.pop("exports")
        same = {k: v for k, v in metrics.items() if not k.startswith(MEASURED)}
        return same, {kind: made["file"] for kind, made in exports.items()}

    assert lasting(cascade.workdir) == lasting(cascade.undisturbed)


def test_mlflow_holds_one_finished_run(cascade):
    client = MlflowClient(cascade.uri)
    experiment = client.get_experiment_by_name("mipp").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    metrics = json.loads((cascade.workdir / "evaluate/metrics.json").read_text())
    assert run.data.metrics["accuracy_finetuned"] == metrics["accuracy_finetuned"]
    points = client.get_metric_history(run.info.run_id, "train/train_loss")
    assert [point.step for point in points] == [1, 2]
