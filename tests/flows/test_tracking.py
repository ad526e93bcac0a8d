"""Tracking reads stage folders: a finished work directory is logged as the flow would log it."""

import json
import os
import shutil

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient

from mipp.config import load_params, write_params
from mipp.errors import ConfigError, WorkdirError
from mipp.stages import STAGES, run_all, run_stage
from tasks.tracking import track, tracked_run, tracked_sweep
from tasks.tracking.__main__ import main

# MLflow uses what SQLAlchemy has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

TINY = (
    "model.name=lenet-300-100",
    "data.size=8",
    "data.calibration=128",
    "train.epochs=3",
    "extract.rows=256",
    "finetune.epochs=1",
    "evaluate.latency_repeats=1",
    "compute.device=cpu",
)


class Kill(Exception):
    """What ends a run from outside."""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """An MLflow database without a run; to make one takes seconds."""
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tracked") / "work"
    run_all(workdir, load_params(overrides=TINY))
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
    with tracked_sweep("budgets", params.tracking, work) as sweep:
        for seed in (0, 1):
            point = params.model_copy(update={"seed": seed})
            with tracked_run(point, work, parent=sweep.run_id):
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
            tracked_sweep("s", params.tracking, work) as sweep,
            tracked_run(params, work, parent=sweep.run_id) as tracker,
        ):
            pass
    assert tracker.run_id == alone
    assert len(runs_in(params)) == 2


def test_number_that_is_missing_is_no_metric(work, params):
    metrics = metrics_in(work) | {"accuracy_refit": None}
    (work / "evaluate/metrics.json").write_text(json.dumps(metrics))
    track(work, params)
    assert "accuracy_refit" not in runs_in(params)[0].data.metrics


def test_killed_training_leaves_one_point_per_epoch(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def log_until_the_second(stage, record):
        tracker.log_epoch(stage, record)
        if record.epoch == 2:
            raise Kill("after epoch 2")

    with pytest.raises(Kill, match="epoch 2"), tracked_run(params, tmp_path / "work") as tracker:
        run_stage(STAGES["train"], tmp_path / "work", params, log_until_the_second)
    assert [run.info.status for run in runs_in(params)] == ["FAILED"]
    with tracked_run(params, tmp_path / "work") as tracker:
        run_stage(STAGES["train"], tmp_path / "work", params, tracker.log_epoch)
        tracker.log_stage("train", tmp_path / "work")
    assert [run.info.status for run in runs_in(params)] == ["FINISHED"]
    points = curve(params, tracker.run_id, "train/train_loss")
    assert points == losses(tmp_path / "work", "train")


def test_points_that_a_killed_flow_did_not_log_are_added(work, params):
    with tracked_run(params, work) as tracker:
        tracker.log_stage("train", work)
    whole = losses(work, "train")
    history = work / "train/history.json"
    longer = json.loads(history.read_text())
    longer.append(longer[-1] | {"epoch": 4, "train_loss": 0.125})
    history.write_text(json.dumps(longer))
    with tracked_run(params, work) as tracker:
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
