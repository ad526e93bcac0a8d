"""The Prefect flow does what `mipp run` does, pairs side by side, and MLflow keeps the numbers."""

import contextlib
import json
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from flows.pipeline import main, pipeline
from mipp.config import dump_params, load_params
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest
from mipp.errors import ConfigError
from mipp.stages import STAGES, run_all, run_stage
from tasks.titles import limiting_tags
from tasks.tracking import tracked_sweep
from tests.smallest_run import SMALLEST

# MLflow, and Prefect beside it, use what SQLAlchemy has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.usefixtures("few_figures"),
    pytest.mark.xdist_group("prefect"),  # with --dist loadgroup one process starts one server
]

TINY = [*SMALLEST, "train.epochs=2"]
NUMERIC = (
    "accuracy_dense", "accuracy_pruned", "accuracy_refit", "accuracy_finetuned", "units_removed",
    "params", "params_dense", "macs", "macs_dense", "latency_ms", "latency_dense_ms", "collapsed",
    "seconds_train", "seconds_extract", "seconds_estimate", "seconds_choose", "seconds_prune",
    "seconds_finetune", "seconds_search", "peak_rss_mb",
)  # fmt: skip


class Once:
    """A work directory after the flow has run twice, and what the first time left."""

    def __init__(self, folder):
        self.workdir = folder / "work"
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.overrides = [*TINY, f"tracking.uri={self.uri}"]
        pipeline(str(self.workdir), overrides=self.overrides)
        self.first_files = self.files()
        self.first_tasks = task_runs(self.workdir)
        pipeline(str(self.workdir), overrides=self.overrides)
        self.tasks = task_runs(self.workdir)
        self.client = MlflowClient(self.uri)
        experiment = self.client.get_experiment_by_name("mipp")
        self.runs = self.client.search_runs([experiment.experiment_id])

    def files(self):
        return {
            str(file.relative_to(self.workdir)): file.stat().st_mtime_ns
            for stage in STAGES
            for file in (self.workdir / stage).rglob("*")
            if file.is_file()
        }

    def metrics(self):
        return self.runs[0].data.metrics

    def curve(self, name):
        history = self.client.get_metric_history(self.runs[0].info.run_id, name)
        return [(point.step, point.value) for point in history]

    def artifacts(self, folder):
        listed = self.client.list_artifacts(self.runs[0].info.run_id, folder)
        return {Path(found.path).name for found in listed}


def task_runs(workdir):
    """Names of the task runs of all flow runs over a work directory, with how each ended.

    The server learns of states through events, some time after the flow has returned.
    """
    name = FlowRunFilter(name=FlowRunFilterName(like_=str(workdir)))
    with get_client(sync_client=True) as client:
        for _ in range(60):
            found = client.read_task_runs(flow_run_filter=name)
            if all(run.state and run.state.is_final() for run in found):
                break
            time.sleep(0.5)
    return [(run.name, run.state_name) for run in found]


@pytest.fixture(scope="module")
def once(prefect, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    with contextlib.chdir(folder):  # MLflow puts artifacts into the current folder
        return Once(folder)


@pytest.fixture
def twice(once, monkeypatch):
    monkeypatch.chdir(once.workdir.parent)
    return once


def test_flow_leaves_every_stage(twice):
    assert [s for s in STAGES if read_manifest(twice.workdir / s) is None] == []


def test_flow_selects_what_the_command_selects(twice, tmp_path):
    run_all(Workdir(tmp_path), load_params(overrides=TINY))
    for file in ("choose/selection.json", "choose/manifest.json", "finetune/model.safetensors"):
        assert (twice.workdir / file).read_bytes() == (tmp_path / file).read_bytes()


def test_layer_pairs_are_estimated_by_separate_tasks(twice):
    tasks = Counter(name for name, _ in twice.first_tasks)
    assert tasks["estimate fc1--fc2"] == 1
    assert tasks["estimate fc2--fc3"] == 1


def test_every_task_completes(twice):
    assert {state for _, state in twice.tasks} == {"Completed"}
    names = {name for name, _ in twice.first_tasks}
    assert names >= {"list pairs", "publish report", *STAGES}


def test_second_flow_redoes_no_stage(twice):
    assert twice.files() == twice.first_files


def test_second_flow_estimates_no_pair(twice):
    tasks = Counter(name for name, _ in twice.tasks)
    assert tasks["estimate fc1--fc2"] == 1
    assert tasks["train"] == 2  # asked, and found up to date


def test_flow_leaves_one_finished_run_in_mlflow(twice):
    assert [run.info.status for run in twice.runs] == ["FINISHED"]


@pytest.mark.parametrize("name", NUMERIC)
def test_mlflow_holds_the_number_of_the_report(twice, name):
    expected = json.loads((twice.workdir / "evaluate/metrics.json").read_text())[name]
    assert twice.metrics()[name] == pytest.approx(float(expected))


@pytest.mark.parametrize(("stage", "epochs"), [("train", 2), ("finetune", 1)])
@pytest.mark.parametrize("curve", ["train_loss", "train_accuracy", "validation_loss", "lr"])
def test_mlflow_holds_one_point_per_epoch(twice, stage, epochs, curve):
    history = json.loads((twice.workdir / stage / "history.json").read_text())
    expected = [(record["epoch"], record[curve]) for record in history]
    assert len(expected) == epochs
    assert twice.curve(f"{stage}/{curve}") == expected


def test_mlflow_holds_every_parameter(twice):
    def flat(values, prefix=""):
        for key, value in values.items():
            nested = isinstance(value, dict)
            yield from flat(value, f"{key}.") if nested else [(prefix + key, str(value))]

    params = load_params(overrides=twice.overrides)
    expected = dict(flat(dump_params(params)))
    logged = twice.runs[0].data.params
    assert {name: logged.get(name) for name in expected} == expected
    assert logged.keys() - expected.keys() == {"ratio"}


def test_mlflow_tags_say_what_was_run(twice):
    tags = twice.runs[0].data.tags
    found = {name: tags[name] for name in ("method", "budget", "model", "data", "seed")}
    assert found == {
        "method": "mipp", "budget": "macs:0.5", "model": "lenet-300-100", "data": "digits",
        "seed": "0",
    }  # fmt: skip


def test_mlflow_holds_node_table_selection_and_report(twice):
    assert twice.artifacts("choose") >= {"nodes.parquet", "selection.json"}
    assert twice.artifacts("report") >= {"report.html", "report.md", "figures"}
    assert twice.artifacts("report/figures") != set()


def test_report_is_shown_in_prefect(twice):
    with get_client(sync_client=True) as client:
        found = client.read_artifacts()
    text = (twice.workdir / "report/report.md").read_text()
    assert {a.data for a in found if a.key == "mipp-report"} == {text}


def test_other_budget_is_another_run(twice, tmp_path):
    other = [*twice.overrides, "tracking.experiment=budgets"]
    shutil.copytree(twice.workdir, tmp_path / "work")
    for budget in ("macs:0.5", "macs:0.25"):
        pipeline(str(tmp_path / "work"), overrides=[*other, f"choose.budget={budget}"])
    experiment = twice.client.get_experiment_by_name("budgets")
    runs = twice.client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["budget"] for run in runs) == ["macs:0.25", "macs:0.5"]
    macs = {run.data.tags["budget"]: run.data.metrics["macs"] for run in runs}
    assert macs["macs:0.25"] < macs["macs:0.5"]


def test_failed_flow_leaves_a_failed_run_that_the_next_one_finishes(twice, tmp_path, monkeypatch):
    def killed(context):
        raise RuntimeError("out of luck")

    overrides = [*twice.overrides, "tracking.experiment=failing", "train.epochs=0"]
    monkeypatch.setitem(STAGES, "prune", replace(STAGES["prune"], body=killed))
    with pytest.raises(RuntimeError, match="out of luck"):
        pipeline(str(tmp_path / "work"), overrides=overrides)
    experiment = twice.client.get_experiment_by_name("failing").experiment_id
    failed = twice.client.search_runs([experiment])
    assert [run.info.status for run in failed] == ["FAILED"]
    assert read_manifest(tmp_path / "work" / "choose") is not None

    monkeypatch.undo()
    pipeline(str(tmp_path / "work"), overrides=overrides)
    finished = twice.client.search_runs([experiment])
    assert [run.info.status for run in finished] == ["FINISHED"]
    assert finished[0].info.run_id == failed[0].info.run_id


def test_flow_refuses_bad_input_before_any_stage_or_run(twice, tmp_path):
    overrides = [*twice.overrides, "tracking.experiment=refused", "choose.method=L1"]
    with pytest.raises(ConfigError, match="did you mean l1"):
        pipeline(str(tmp_path / "work"), overrides=overrides)
    assert not (tmp_path / "work/train").exists()
    assert twice.client.get_experiment_by_name("refused") is None


def test_flow_without_tracking_tracks_nothing(prefect, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline("work", overrides=[*TINY, "train.epochs=0", "finetune.epochs=0", "tracking.uri=null"])
    assert read_manifest(tmp_path / "work" / "report") is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["work"]


@pytest.mark.parametrize(
    ("override", "part"), [("choose.budget=macs:2", "(0, 1]"), ("model.name=lenet6", "lenet5")]
)
def test_command_refuses_bad_input_without_a_server(override, part, tmp_path, monkeypatch, capsys):
    arguments = ["pipeline", "--workdir", str(tmp_path / "work"), "--set", override]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def flow_run_over(workdir):
    with get_client(sync_client=True) as client:
        name = FlowRunFilter(name=FlowRunFilterName(like_=str(workdir)))
        return client.read_flow_runs(flow_run_filter=name)


def artifacts_of(runs):
    ids = {run.id for run in runs}
    with get_client(sync_client=True) as client:
        return {a.key: a for a in client.read_artifacts(limit=200) if a.flow_run_id in ids}


def test_run_says_what_is_pruned(twice):
    names = {run.name for run in flow_run_over(twice.workdir)}
    title = f"lenet-300-100 on digits, mipp macs:0.5, {twice.workdir}"
    assert names == {title, f"stages in {twice.workdir}"}


def test_tasks_on_a_processor_ask_for_no_limit(twice):
    name = FlowRunFilter(name=FlowRunFilterName(like_=f"stages in {twice.workdir}"))
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(flow_run_filter=name)
    assert {tuple(run.tags) for run in found} == {()}


@pytest.mark.parametrize(("kind", "tags"), [("cpu", ()), ("cuda", ("gpu",))])
def test_only_tasks_on_a_card_are_limited(kind, tags, monkeypatch):
    monkeypatch.setattr("tasks.titles.resolve_device", lambda name: torch.device(kind))
    assert limiting_tags(load_params()) == tags


def test_prefect_shows_table_progress_and_where_mlflow_keeps_the_run(twice):
    found = artifacts_of(flow_run_over(twice.workdir))
    metrics = json.loads((twice.workdir / "evaluate/metrics.json").read_text())
    rows = json.loads(found["mipp-result"].data)
    assert [row["params"] for row in rows][::3] == [
        f"{metrics['params_dense']:,}", f"{metrics['params']:,}",
    ]  # fmt: skip
    assert found["mipp-pairs"].data == 100
    assert twice.runs[0].info.run_id in found["mipp-mlflow"].data


def test_run_that_takes_too_long_is_stopped_and_says_so(twice, tmp_path, monkeypatch):
    left = []

    def without_end(context):
        left.append(signal.setitimer(signal.ITIMER_REAL, 0.01)[0])  # the limit is there now
        time.sleep(600)

    monkeypatch.setitem(STAGES, "train", replace(STAGES["train"], body=without_end))
    overrides = [*twice.overrides, "tracking.experiment=slow"]
    with pytest.raises(TimeoutError):
        pipeline(str(tmp_path / "work"), overrides=overrides, hours=2.0)
    assert 3600 < left[0] <= 7200
    experiment = twice.client.get_experiment_by_name("slow").experiment_id
    (run,) = twice.client.search_runs([experiment])
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"].startswith("TimedOut: stopped after 2 hours")


def test_failure_is_recorded_in_mlflow_and_as_an_artifact(twice, tmp_path, monkeypatch):
    def broken(context):
        raise RuntimeError("out of luck")

    overrides = [*twice.overrides, "tracking.experiment=recorded", "train.epochs=0"]
    monkeypatch.setitem(STAGES, "extract", replace(STAGES["extract"], body=broken))
    with pytest.raises(RuntimeError, match="out of luck"):
        pipeline(str(tmp_path / "work"), overrides=overrides)
    experiment = twice.client.get_experiment_by_name("recorded").experiment_id
    (run,) = twice.client.search_runs([experiment])
    assert "out of luck" in run.data.tags["failure"]
    found = artifacts_of(flow_run_over(tmp_path / "work"))
    assert "out of luck" in found["mipp-failure"].data


def test_point_of_a_sweep_is_a_child_of_its_run(twice, tmp_path):
    params = load_params(overrides=[*twice.overrides, "tracking.experiment=points"])
    with tracked_sweep("budgets", params.tracking, str(tmp_path)) as sweep:
        overrides = [*twice.overrides, "tracking.experiment=points"]
        shutil.copytree(twice.workdir, tmp_path / "work")
        pipeline(str(tmp_path / "work"), overrides=overrides, parent=sweep.run_id)
    experiment = twice.client.get_experiment_by_name("points").experiment_id
    runs = {run.info.run_id: run for run in twice.client.search_runs([experiment])}
    del runs[sweep.run_id]
    assert [run.data.tags["mlflow.parentRunId"] for run in runs.values()] == [sweep.run_id]


def test_shards_are_extracted_by_separate_tasks(prefect, twice, tmp_path):
    """The flow of `twice` has one shard, and no task for it."""
    assert not [name for name, _ in twice.first_tasks if name.startswith("extract shard")]
    more = ["extract.shards=3", "extract.batch_size=32", "train.epochs=0", "finetune.epochs=0"]
    workdir, overrides = tmp_path / "flow", [*TINY, *more, "tracking.uri=null"]
    pipeline(str(workdir), overrides=overrides)
    tasks = Counter(name for name, _ in task_runs(workdir))
    assert {name: count for name, count in tasks.items() if "shard " in name} == {
        f"extract shard {shard}": 1 for shard in range(3)
    }
    one = load_params(overrides=[*overrides, "extract.shards=1"])
    for stage in ("train", "extract"):
        run_stage(STAGES[stage], Workdir(tmp_path / "one"), one)
    assert read_manifest(workdir / "extract") == read_manifest(tmp_path / "one" / "extract")
    assert artifacts_of(flow_run_over(workdir))["mipp-shards"].data == 100
