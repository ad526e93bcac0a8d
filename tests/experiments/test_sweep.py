"""A sweep's points are complete or absent, share what they can, and end in one table."""

import json
import shutil
from pathlib import Path

import pytest

from mipp.cli import main
from mipp.config import load_params
from mipp.errors import BudgetError, ConfigError, DamagedStoreError, WorkdirError
from mipp.experiments import shared
from mipp.experiments.engine import result_file
from mipp.experiments.results import TABLE, read_rows, read_table
from mipp.experiments.sweep import command, plan_sweep, run_sweep
from tests.brought_modules import module_brought
from tests.smallest_run import SMALLEST
from tests.untimed_rows import untimed

pytestmark = pytest.mark.usefixtures("few_figures")
SPEC = """
title: small
set:
  data.name: digits
  data.limit: 256
  data.size: 8
  data.calibration: 64
  data.validation: 0.0
  extract.rows: 512
  model.name: lenet-300-100
  train.epochs: 1
  finetune.epochs: 1
  prune.images: 64
  evaluate.latency_batch: 1
  evaluate.export: []
methods: [{methods}]
budgets: ["ratio:0.5"]
seeds: [0]
"""


@pytest.fixture
def spec(tmp_path):
    def write(methods="mipp, random-same-widths", more=""):
        file = tmp_path / "small.yaml"
        file.write_text(SPEC.format(methods=methods) + more)
        return file

    return write


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_figures):
    """The folder of a finished sweep in one process, which no test changes."""
    folder = tmp_path_factory.mktemp("finished")
    file, root = folder / "small.yaml", folder / "root"
    file.write_text(SPEC.format(methods="mipp, random-same-widths"))
    assert run_sweep(plan_sweep(file, "full", root), root) == []
    return folder


def widths(row):
    return json.loads(row["widths"])


def test_points_of_one_seed_share_the_dense_network_and_a_method_added_later_is_all_that_runs(
    finished, spec, tmp_path
):
    root = Path(shutil.copytree(finished / "root", tmp_path / "root", symlinks=True))
    points = {file: file.stat().st_mtime_ns for file in (root / "points").iterdir()}
    trained = list((root / "shared").glob("train-*/train/model.safetensors"))
    assert len(points) == 2
    assert len(trained) == 1
    written = trained[0].stat().st_mtime_ns

    plan = plan_sweep(spec("mipp, random-same-widths, re-initialised"), "full", root)
    assert run_sweep(plan, root) == []
    assert {file: file.stat().st_mtime_ns for file in points} == points
    assert len(list((root / "points").iterdir())) == 3
    assert trained[0].stat().st_mtime_ns == written
    rows, about = read_table(root / TABLE)
    by_method = {row["method"]: row for row in rows}
    assert widths(by_method["random-same-widths"]) == widths(by_method["mipp"])
    assert widths(by_method["re-initialised"]) == widths(by_method["mipp"])
    assert by_method["random-same-widths"]["params"] == by_method["mipp"]["params"]
    assert about["experiment"] == "small"
    assert not any((root / "work").iterdir())


@pytest.mark.slow  # two processes import everything; faults/test_long_sweep.py has them killed too
def test_processes_give_the_table_that_one_gives(finished, tmp_path):
    plan = plan_sweep(finished / "small.yaml", "full", tmp_path)
    assert run_sweep(plan, tmp_path, workers=2) == []
    one, two = (read_table(root / TABLE)[0] for root in (finished / "root", tmp_path))
    assert [untimed(row) for row in two] == [untimed(row) for row in one]


def test_an_emptied_group_is_a_result_at_chance(spec, tmp_path):
    file = spec("l1", more="start: [trained]\nscales: {full: {set: {choose.min_channels: 0}}}\n")
    file.write_text(file.read_text().replace("ratio:0.5", "ratio:0.97"))
    assert run_sweep(plan_sweep(file, "full", tmp_path / "root"), tmp_path / "root") == []
    ((row,), _) = read_table(tmp_path / "root" / TABLE)
    assert row["collapsed"]
    assert 0 in widths(row).values()
    assert row["accuracy_finetuned"] == pytest.approx(37 / 360)  # of the most frequent digit
    assert row["seconds_search"] > 0


def test_a_failed_point_is_named_and_the_others_are_done(spec, tmp_path, capsys):
    root = tmp_path / "root"
    file = spec("mipp, l1")
    plan = plan_sweep(file, "full", root)
    broken = next(point for point in plan.grid if point.method == "l1")
    (root / "work").mkdir()
    (root / "work" / broken.name).write_text("a file where a folder belongs")
    assert main(["sweep", str(file), "--scale", "full", "--root", str(root), "--quiet"]) == 1
    assert broken.name in capsys.readouterr().err
    assert [row["method"] for row in read_table(root / TABLE)[0]] == ["mipp"]
    assert (root / "points" / f"{broken.name}.error").read_text()


BROUGHT = """
from mipp.models.lenet import lenet_300_100
calls = []
class Odd(Exception): pass
def value(): raise ValueError("of value")
def key(): raise KeyError("of key")
def odd(): raise Odd("of odd")
def late(classes, channels, size):
    calls.append(size)
    if len(calls) > 1: raise ValueError("of late")
    return lenet_300_100(classes, channels, size)
"""
RAISED = {
    "value": "ValueError: of value",
    "key": "KeyError: 'of key'",
    "odd": "Odd: of odd",
    "late": "ValueError: of late",
}


def test_what_brought_code_raises_fails_its_point_alone(spec, tmp_path, capsys):
    """Three kinds where the network is built first, before compute, and one only afterwards."""
    brought = ", ".join(f"brought:{name}" for name in RAISED)
    file = spec("l1", more=f"vary: {{model.name: [{brought}, lenet-300-100]}}\n")
    root = tmp_path / "root"
    arguments = ["sweep", str(file), "--scale", "full", "--root", str(root), "--quiet", "--json"]
    with module_brought(tmp_path, "brought", BROUGHT):
        assert main(arguments) == 1
    done = capsys.readouterr()
    found = json.loads(done.out)
    assert (found["points"], found["done"]) == (5, 1)
    assert sorted(found["failed"].values()) == sorted(RAISED.values())
    for name, reason in found["failed"].items():
        assert f"failed: {name}: {reason}\n" in done.err
        note = (root / "points" / f"{name}.error").read_text()
        assert note.startswith("Traceback")
        assert note.rstrip().endswith(reason)
    ((row,), _) = read_table(root / TABLE)
    assert row["variant"] == "model.name=lenet-300-100"


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (("title: small", "titel: small"), ConfigError, "did you mean title"),
        (("mipp, random", "mip, random"), ConfigError, "did you mean mipp"),
        (("ratio:0.5", "ratio:1.5"), BudgetError, "out of range"),
        (("train.epochs", "train.epoch"), ConfigError, "did you mean epochs"),
        (("seeds: [0]", "seeds: []"), ConfigError, "seeds"),
    ],
)
def test_what_a_file_cannot_mean_is_refused_before_compute(spec, tmp_path, change, error, match):
    file = spec()
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(error, match=match):
        plan_sweep(file, "full", tmp_path / "root")
    assert not (tmp_path / "root" / "shared").exists()


def test_only_asks_for_some_points_and_refuses_what_is_not_there(spec, tmp_path):
    plan = plan_sweep(spec("mipp, l1"), "full", tmp_path, filters=["method=l1"])
    assert [point.method for point in plan.wanted] == ["l1"]
    assert len(plan.grid) == 2
    with pytest.raises(ConfigError, match="choose from method"):
        plan_sweep(spec("mipp, l1"), "full", tmp_path, filters=["methods=l1"])
    with pytest.raises(ConfigError, match="no point"):
        plan_sweep(spec("mipp, l1"), "full", tmp_path, filters=["method=l2"])


def test_damaged_store_that_points_share_is_made_anew_by_the_next_sweep(tmp_path, monkeypatch):
    def run(stage, workdir, params):
        if stage.name == "estimate":
            raise DamagedStoreError("a chunk is missing")
        (workdir.folder / stage.name).mkdir()
        (workdir.folder / stage.name / "manifest.json").write_text("{}")

    monkeypatch.setattr(shared, "run_stage", run)
    with pytest.raises(DamagedStoreError):
        shared.run_shared(tmp_path, load_params(overrides=SMALLEST))
    assert {file.parent.name for file in tmp_path.glob("shared/*/*/manifest.json")} == {"train"}


def test_command_refuses_to_compute_no_points_at_once(spec, tmp_path, capsys):
    assert main(["sweep", str(spec()), "--root", str(tmp_path / "root"), "--workers", "0"]) == 2
    assert "--workers: expected a whole number of at least 1" in capsys.readouterr().err


def test_command_refuses_a_cluster_and_names_the_flow(spec, tmp_path, capsys):
    arguments = ["sweep", str(spec()), "--root", str(tmp_path / "root")]
    assert main([*arguments, "--set", "compute.runner=ray"]) == 2
    assert "python -m flows.sweep" in capsys.readouterr().err
    assert not (tmp_path / "root/points").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"method": "l1"}', "{" * 9999])
def test_damaged_result_of_a_point_is_refused_by_name(content, spec, tmp_path):
    point = plan_sweep(spec(), "full", tmp_path).grid[0]
    file = result_file(tmp_path, point)
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(WorkdirError, match=rf"{file} cannot be read.\nExpected .*, got no .*; del"):
        read_rows(tmp_path, [point])


def test_command_of_the_table_is_one_for_one_machine(spec, tmp_path):
    overrides = ["compute.runner=ray", "compute.address=10.0.0.1:6379", "train.lr=0.01"]
    found = command(plan_sweep(spec(), "smoke", tmp_path, [*overrides, "compute.cpus_per_task=2"]))
    assert found == "mipp sweep experiments/small.yaml --scale smoke --set train.lr=0.01"


def test_number_of_shards_is_no_other_point(spec, tmp_path):
    names = [
        [point.name for point in plan_sweep(spec(), "smoke", tmp_path, given).wanted]
        for given in ([], ["extract.shards=2", "extract.batch_size=16"], ["extract.batch_size=16"])
    ]
    assert names[0] != names[1] == names[2]
