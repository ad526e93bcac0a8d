"""Four flows in four processes log to one SQLite store that none of them finds made."""

import json
import subprocess

import pytest
from mlflow import MlflowClient
from processes import TINY, flow_command, prefect_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
SEEDS = range(4)
SECONDS = 400


class Four:
    def __init__(self, folder, environment):
        self.environment = environment
        self.folder, self.uri = folder, f"sqlite:///{folder / 'mlflow.db'}"
        flows = [self.start(seed) for seed in SEEDS]
        self.errors = [flow.communicate(timeout=SECONDS)[1] for flow in flows]
        self.exits = [flow.returncode for flow in flows]
        assert self.exits == [0] * 4, "\n".join(self.errors)
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name("mipp").experiment_id
        self.client, runs = client, client.search_runs([experiment])
        self.runs = {int(run.data.tags["seed"]): run for run in runs}
        assert len(self.runs) == len(runs)

    def start(self, seed):
        overrides = [*TINY, f"seed={seed}", f"tracking.uri={self.uri}"]
        return subprocess.Popen(
            flow_command(self.folder / f"work-{seed}", overrides),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def four(folder):
    with prefect_server(folder / "home") as environment:
        return Four(folder, environment)


def test_none_fails(four):
    assert four.exits == [0] * 4
    assert [run.info.status for run in four.runs.values()] == ["FINISHED"] * 4


@pytest.mark.parametrize("number", SEEDS)
def test_no_number_is_lost(four, number):
    metrics = json.loads((four.folder / f"work-{number}/evaluate/metrics.json").read_text())
    numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, (int, float))}
    logged = four.runs[number].data.metrics
    assert {name: logged.get(name) for name in numbers} == pytest.approx(numbers)


@pytest.mark.parametrize("number", SEEDS)
@pytest.mark.parametrize("stage", ["train", "finetune"])
def test_no_epoch_is_lost(four, number, stage):
    history = json.loads((four.folder / f"work-{number}/{stage}/history.json").read_text())
    run_id = four.runs[number].info.run_id
    points = four.client.get_metric_history(run_id, f"{stage}/train_loss")
    expected = [(record["epoch"], record["train_loss"]) for record in history]
    assert [(point.step, point.value) for point in points] == expected


@pytest.mark.parametrize("number", SEEDS)
def test_no_file_is_lost(four, number):
    run_id = four.runs[number].info.run_id
    listed = {f.path for f in four.client.list_artifacts(run_id, "report")}
    assert listed >= {"report/report.html", "report/report.md", "report/figures"}
