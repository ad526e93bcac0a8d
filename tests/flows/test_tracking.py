"""Tracking reads stage folders: a finished work directory is logged as the flow would log it."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from mipp.budget import Budget, parse_budget
from mipp.checkpoint import load_checkpoint
from mipp.config import load_params, write_params
from mipp.disk.storage import Workdir
from mipp.errors import ConfigError, WorkdirError
from mipp.stages import STAGES, run_all, run_stage
from tasks import failures
from tasks.tracking import origin, track, tracked_run, tracked_sweep, watched_machine
from tasks.tracking.__main__ import main
from tasks.tracking.registry import register_best
from tests.smallest_run import SMALLEST

# MLflow uses what SQLAlchemy has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.usefixtures("few_figures"),
    pytest.mark.xdist_group("tracking"),  # one process makes what all need
]

TINY = (*SMALLEST, "train.epochs=3", "extract.rows=256", "evaluate.export=[torch]")


class Kill(Exception):
    """What ends a run from outside."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tracked") / "work"
    run_all(Workdir(workdir), load_params(overrides=TINY))
    return workdir


@pytest.fixture
def work(finished, tmp_path, monkeypatch):
    """A copy of the finished run, in the current folder: MLflow puts artifacts there."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def params(empty_database, tmp_path):
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return load_params(overrides=[*TINY, f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"])


def runs_in(params):
    client = MlflowClient(params.tracking.uri)
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    return client.search_runs([experiment.experiment_id]) if experiment else []


def curve(params, run_id, name):
    history = MlflowClient(params.tracking.uri).get_metric_history(run_id, name)
    return [(point.step, point.value) for point in history]


def losses(workdir, stage):
    history = json.loads((workdir / stage / "history.json").read_text())
    return [(record["epoch"], record["train_loss"]) for record in history]


def metrics_in(workdir):
    return json.loads((workdir / "evaluate/metrics.json").read_text())


def numbers(values):
    return {name: float(v) for name, v in values.items() if isinstance(v, (int, float))}


def test_finished_work_directory_is_one_finished_run(work, params):
    run_id = track(work, params)
    assert [(run.info.run_id, run.info.status) for run in runs_in(params)] == [(run_id, "FINISHED")]


def test_all_numbers_curves_and_files_are_logged(work, params):
    run_id = track(work, params)
    logged = runs_in(params)[0].data
    expected = numbers(metrics_in(work))
    assert {name: logged.metrics.get(name) for name in expected} == pytest.approx(expected)
    for stage in ("train", "finetune"):
        assert curve(params, run_id, f"{stage}/train_loss") == losses(work, stage)
    listed = MlflowClient(params.tracking.uri).list_artifacts(run_id, "choose")
    assert {a.path for a in listed} == {"choose/nodes.parquet", "choose/selection.json"}
    assert logged.params["choose.budget"] == "macs:0.5"


def test_work_directory_at_a_url_is_logged_as_a_folder(work, params, tmp_path, monkeypatch):
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "cache"))
    there = fsspec.filesystem("memory")
    there.put(str(work), "/tracked/work", recursive=True)
    options = ["--workdir", "memory://tracked/work", "--config", "params.yaml"]
    write_params(params, tmp_path / "params.yaml")
    monkeypatch.setattr(sys, "argv", ["tracking", *options])
    try:
        assert main() == 0
    finally:
        there.rm("/tracked", recursive=True)
    [run] = runs_in(params)
    expected = numbers(metrics_in(work))
    assert {name: run.data.metrics.get(name) for name in expected} == pytest.approx(expected)


def test_lists_are_kept_as_tags(work, params):
    track(work, params)
    assert runs_in(params)[0].data.tags["collapsed_groups"] == "[]"


def test_words_are_kept_as_tags_without_quotes(work, params):
    track(work, params)
    assert runs_in(params)[0].data.tags["pruned_when"] == "trained"


def test_second_time_adds_neither_a_run_nor_a_point(work, params):
    first, second = track(work, params), track(work, params)
    assert first == second
    assert len(runs_in(params)) == 1
    assert curve(params, first, "train/train_loss") == losses(work, "train")
    assert curve(params, first, "macs") == [(0, metrics_in(work)["macs"])]


@pytest.mark.parametrize("factor", [0.5, 2])
def test_number_that_changed_replaces_the_old_one(work, params, factor):
    track(work, params)
    metrics = metrics_in(work)
    metrics["latency_ms"] *= factor  # measured again, on a machine that is less or more busy
    (work / "evaluate/metrics.json").write_text(json.dumps(metrics))
    track(work, params)
    assert runs_in(params)[0].data.metrics["latency_ms"] == pytest.approx(metrics["latency_ms"])


def test_other_parameters_are_another_run(work, params):
    track(work, params)
    other = params.model_copy(update={"seed": 1})
    track(work, other)
    assert sorted(run.data.tags["seed"] for run in runs_in(params)) == ["0", "1"]


def test_sweep_holds_its_points(work, params):
    with tracked_sweep("budgets", params.tracking, str(work)) as sweep:
        for seed in (0, 1):
            point = params.model_copy(update={"seed": seed})
            with tracked_run(point, str(work), parent=sweep.run_id):
                pass
    runs = {run.info.run_id: run for run in runs_in(params)}
    parent = runs.pop(sweep.run_id)
    assert parent.data.tags["mlflow.runName"] == "sweep budgets"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {sweep.run_id}
    assert sorted(run.data.tags["seed"] for run in runs.values()) == ["0", "1"]


def test_sweep_that_is_run_again_adopts_points_and_adds_none(work, params):
    alone = track(work, params)
    for _ in range(2):
        with (
            tracked_sweep("s", params.tracking, str(work)) as sweep,
            tracked_run(params, str(work), parent=sweep.run_id) as tracker,
        ):
            pass
    assert tracker.run_id == alone
    assert len(runs_in(params)) == 2


def test_ratios_are_logged_of_the_network_and_of_each_group(work, params):
    track(work, params)
    data = runs_in(params)[0].data
    selection = json.loads((work / "choose/selection.json").read_text())
    kept = {group: len(channels) for group, channels in selection["kept"].items()}
    for group, width in selection["width"].items():
        assert data.metrics[f"ratio/{group}"] == pytest.approx((width - kept[group]) / width)
    total = 1 - sum(kept.values()) / sum(selection["width"].values())
    assert data.metrics["ratio"] == pytest.approx(total)
    assert float(data.params["ratio"]) == pytest.approx(total, abs=0.005)


def test_trade_off_is_a_curve_over_the_macs_that_stay(work, params):
    points = [
        {"macs_share": 0.5, "lost": 0.25, "metric": 97.0},
        {"macs_share": 0.304, "lost": 0.75, "metric": None},
    ]
    (work / "choose/trade_off.json").write_text(json.dumps({"points": points}))
    run_id = track(work, params)
    assert track(work, params) == run_id
    assert curve(params, run_id, "trade-off/lost") == [(30, 75.0), (50, 25.0)]
    assert curve(params, run_id, "trade-off/metric") == [(50, 97.0)]
    listed = MlflowClient(params.tracking.uri).list_artifacts(run_id, "choose")
    assert "choose/trade_off.json" in {a.path for a in listed}


def test_tags_say_which_code_and_data_a_run_came_from(work, params, monkeypatch):
    monkeypatch.setattr(origin, "commit", lambda: "abc-dirty")
    (work.parent / "dvc.lock").write_text("schema: '2.0'\n")
    track(work, params)
    tags = runs_in(params)[0].data.tags
    assert tags["commit"] == "abc-dirty"
    assert tags["dvc.lock"] == hashlib.sha256(b"schema: '2.0'\n").hexdigest()


def test_code_without_git_and_folder_without_dvc_have_no_such_tags(work, params, monkeypatch):
    monkeypatch.setattr(origin, "commit", lambda: "")
    track(work, params)
    assert not {"commit", "dvc.lock"} & runs_in(params)[0].data.tags.keys()


LOAD = """
import sys
sys.modules["mipp"] = None  # an import of it fails
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
print(model.metadata.signature.inputs, model.metadata.signature.outputs)
np.save("outputs.npy", model.predict(np.load("inputs.npy")))
"""


def logged_models(params):
    client = MlflowClient(params.tracking.uri)
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    return client.search_logged_models([experiment.experiment_id])


@pytest.mark.slow  # an interpreter of its own, with MLflow; test_export.py runs programs alone
def test_logged_model_computes_the_network_without_mipp(work, params):
    track(work, params)
    (model,) = logged_models(params)
    inputs = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    np.save("inputs.npy", inputs)
    command = [sys.executable, "-c", LOAD, params.tracking.uri, f"models:/{model.model_id}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(-1, 1, 8, 8)" in done.stdout
    assert "(-1, 10)" in done.stdout
    with torch.no_grad():
        network = load_checkpoint(work / "finetune/model.safetensors").model.eval()
        expected = network(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(np.load("outputs.npy"), expected, atol=1e-5)


def test_program_is_logged_once_and_a_changed_one_takes_its_place(work, params):
    for _ in range(2):
        run_id = track(work, params)
    (first,) = logged_models(params)
    assert first.source_run_id == run_id
    manifest = json.loads((work / "evaluate/manifest.json").read_text())
    manifest["outputs"]["export/model.pt2"] = "0" * 64
    (work / "evaluate/manifest.json").write_text(json.dumps(manifest))
    track(work, params)
    (second,) = logged_models(params)
    assert second.model_id != first.model_id


def with_metrics(work, params, seed, **changed):
    """A run of another seed whose numbers are the finished run's, but for some."""
    file = work / "evaluate/metrics.json"
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before) | changed))
    run_id = track(work, params.model_copy(update={"seed": seed}))
    file.write_text(before)
    return run_id


def test_best_run_within_the_budget_is_registered(work, params):
    def run(seed, accuracy, macs, collapsed=False):
        numbers = {"accuracy_finetuned": accuracy, "macs": macs, "macs_dense": 1000}
        return with_metrics(work, params, seed, collapsed=collapsed, **numbers)

    run(1, 0.99, 501)  # too large
    run(2, 0.98, 400, collapsed=True)
    best = run(3, 0.97, 500)
    run(4, 0.96, 300)
    for _ in range(2):
        register_best(params, "digits", Budget("macs", 0.5))
    client = MlflowClient(params.tracking.uri)
    (version,) = client.search_model_versions("name = 'digits'")
    assert version.run_id == best
    assert client.get_model_version_by_alias("digits", "best").version == version.version


@pytest.mark.parametrize(
    ("budget", "part"), [("macs:0.1", r"macs:0\.1.*0 run"), ("nats:1", "ratio, macs, params")]
)
def test_nothing_is_registered_where_no_run_keeps_to_the_budget(work, params, budget, part):
    track(work, params)
    with pytest.raises(ConfigError, match=rf"(?s){part}"):
        register_best(params, "digits", parse_budget(budget))


def test_command_registers_the_best(work, params, monkeypatch, capsys):
    run_id = track(work, params)
    write_params(params, Path("p.yaml"))
    assert command(monkeypatch, "--config", "p.yaml", "--register", "digits") == 0
    assert f"run {run_id}, the best within macs:0.5, as models:/digits@best" in (
        capsys.readouterr().out
    )


def test_machine_is_watched_while_the_block_runs(work, params, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with tracked_run(params, str(work)) as tracker, watched_machine(tracker):
        for _ in range(600):  # a machine may be busy for a minute
            if found := runs_in(params)[0].data.metrics:
                break
            time.sleep(0.1)
    assert 0 < found["system/system_memory_usage_percentage"] <= 100
    assert tracker.run_id == runs_in(params)[0].info.run_id


def test_number_that_is_missing_is_no_metric(work, params):
    metrics = metrics_in(work) | {"accuracy_refit": None}
    (work / "evaluate/metrics.json").write_text(json.dumps(metrics))
    track(work, params)
    assert "accuracy_refit" not in runs_in(params)[0].data.metrics


def test_run_behind_a_url_is_found_to_say_why_it_ended(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "here"))
    monkeypatch.setattr(failures, "show_failure", lambda *_: None)
    url, sets = "memory://bucket/work", [*TINY, f"tracking.uri={params.tracking.uri}"]
    with tracked_run(params, Workdir.open(url).address):
        pass
    given = {"workdir": url, "overrides": sets}
    failures.record_failure(uuid4(), given, "Crashed", "out of memory")
    (run,) = runs_in(params)
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "Crashed: out of memory")


def test_killed_training_leaves_one_point_per_epoch(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def log_until_the_second(stage, record):
        tracker.log_epoch(stage, record)
        if record.epoch == 2:
            raise Kill("after epoch 2")

    with (
        pytest.raises(Kill, match="epoch 2"),
        tracked_run(params, str(tmp_path / "work")) as tracker,
    ):
        run_stage(STAGES["train"], Workdir(tmp_path / "work"), params, log_until_the_second)
    assert [run.info.status for run in runs_in(params)] == ["FAILED"]
    with tracked_run(params, str(tmp_path / "work")) as tracker:
        run_stage(STAGES["train"], Workdir(tmp_path / "work"), params, tracker.log_epoch)
        tracker.log_stage("train", tmp_path / "work")
    assert [run.info.status for run in runs_in(params)] == ["FINISHED"]
    points = curve(params, tracker.run_id, "train/train_loss")
    assert points == losses(tmp_path / "work", "train")


def test_points_that_a_killed_flow_did_not_log_are_added(work, params):
    with tracked_run(params, str(work)) as tracker:
        tracker.log_stage("train", work)
    whole = losses(work, "train")
    history = work / "train/history.json"
    longer = json.loads(history.read_text())
    longer.append(longer[-1] | {"epoch": 4, "train_loss": 0.125})
    history.write_text(json.dumps(longer))
    with tracked_run(params, str(work)) as tracker:
        tracker.log_stage("train", work)
    assert curve(params, tracker.run_id, "train/train_loss") == [*whole, (4, 0.125)]


def test_no_address_tracks_nothing(work):
    assert track(work, load_params(overrides=[*TINY, "tracking.uri=null"])) == ""
    assert sorted(p.name for p in work.parent.iterdir()) == ["work"]


@pytest.mark.parametrize("uri", ["bogus://nowhere", "file:///no/where", "some/folder"])
def test_address_that_cannot_be_used_is_refused(work, params, uri):
    update = {"tracking": params.tracking.model_copy(update={"uri": uri})}
    with pytest.raises(ConfigError, match=rf"(?s)tracking\.uri.*{uri}.*sqlite:///mlflow\.db"):
        track(work, params.model_copy(update=update))


def test_unfinished_work_directory_names_the_command(params, tmp_path):
    with pytest.raises(WorkdirError, match=r"(?s)'train'.*mipp train.*mipp run"):
        track(tmp_path / "none", params)


def command(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["tracking", *map(str, arguments)])
    return main()


def test_command_logs_a_work_directory(work, params, monkeypatch, capsys):
    write_params(params, work.parent / "p.yaml")
    assert command(monkeypatch, "--workdir", work, "--config", work.parent / "p.yaml") == 0
    assert runs_in(params)[0].info.run_id in capsys.readouterr().out


def test_command_without_an_address_says_that_nothing_was_logged(work, monkeypatch, capsys):
    assert command(monkeypatch, "--workdir", work, "--set", "tracking.uri=null") == 0
    printed = capsys.readouterr().out
    assert "tracking.uri" in printed
    assert "logged" not in printed.replace("nothing was logged", "")


def test_command_refuses_bad_input(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "--workdir", tmp_path, "--set", "tracking.url=x") == 2
    assert "did you mean uri" in capsys.readouterr().err
