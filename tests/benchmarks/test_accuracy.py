"""The accuracy benchmark: all kinds of methods on the embedded digits, and what is kept of them."""

import statistics

import pytest
import torch

from benchmarks.accuracy.equal_budgets import arguments, checked, run, show
from benchmarks.accuracy.methods import METHODS, NAMES, Trial, methods_for
from benchmarks.accuracy.page import write_page
from benchmarks.accuracy.results import COLUMNS, FILE, points_in, table, verdicts
from benchmarks.accuracy.workloads import WORKLOADS, Workload, dense_network, load_images
from benchmarks.shared.command import fitting
from mipp.config import DataConfig, TrainConfig
from mipp.data import load_data
from mipp.errors import BudgetError
from mipp.models import ModelSpec, build_model

TRAINING = TrainConfig(epochs=1, batch_size=64)
DIGITS = Workload(
    "lenet5", "digits", "none", ("ratio:0.5",), WORKLOADS["lenet5"].rival_layers, TRAINING
)
TAUGHT = "mipp, refit start, taught"
ROWS = ["dense", "mipp", "mipp, refit start", TAUGHT, "l1, layer", "Torch-Pruning Taylor, global"]


def options(folder, *more):
    return arguments(
        [
            *("--workload", "lenet5", "--seeds", "0", "--epochs", "1", "--images", "64"),
            *("--test-images", "200", "--methods", *ROWS),
            *("--cache", str(folder / "cache"), *more),
        ]
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accuracy")
    assert run(DIGITS, options(folder), points_in(folder / "points.csv")) == []
    return folder


def read(folder):
    return {p["method"]: p for p in points_in(folder / "points.csv").all()}


def point(**values):
    numbers = dict.fromkeys(COLUMNS) | {"images": 2048, "train_images": 50000, "epochs": 2}
    numbers |= {"dense_images": 0, "precision": "float32"}
    names = {"workload": "resnet20", "budget": "macs:0.3", "method": "mipp", "seed": 0}
    machine = {"test_images": 10000, "threads": 2, "cores": 2, "versions": "torch 2"}
    return {**numbers, **names, **machine, **values}


def test_every_kind_of_method_gives_a_point_at_the_budget(finished):
    points = read(finished)
    assert list(points) == ROWS
    pruned = [p for name, p in points.items() if name != "dense"]
    assert all(p["units"] == pytest.approx(50) for p in pruned)
    assert all(0 < p["finetuned"] <= 100 for p in pruned)
    assert points["Torch-Pruning Taylor, global"]["refit"] is None
    assert points["dense"]["finetuned"] is None


def test_both_starts_of_mipp_share_the_network_but_not_the_training(finished):
    points = read(finished)
    plain, refit = points["mipp"], points["mipp, refit start"]
    assert [plain[c] for c in ("macs", "raw", "refit")] == [
        refit[c] for c in ("macs", "raw", "refit")
    ]
    assert plain["finetuned"] != refit["finetuned"]


def test_taught_differs_from_the_same_start_in_its_training_alone(finished):
    points = read(finished)
    alone, taught = points["mipp, refit start"], points[TAUGHT]
    assert [alone[c] for c in ("raw", "refit")] == [taught[c] for c in ("raw", "refit")]
    assert alone["finetuned"] != taught["finetuned"]


def test_a_rerun_computes_only_what_is_missing(finished, monkeypatch):
    before = (finished / "points.csv").read_text()
    monkeypatch.setattr("benchmarks.accuracy.equal_budgets.measure", None)  # calling it would fail
    assert run(DIGITS, options(finished), points_in(finished / "points.csv")) == []
    assert (finished / "points.csv").read_text() == before


def test_again_computes_the_same_numbers(finished, tmp_path):
    (tmp_path / "points.csv").write_text((finished / "points.csv").read_text())
    again = options(tmp_path, "--again", "--cache", str(finished / "cache"), "--methods", "mipp")
    run(DIGITS, again, points_in(tmp_path / "points.csv"))
    old, new = read(finished)["mipp"], read(tmp_path)["mipp"]
    assert len((tmp_path / "points.csv").read_text().splitlines()) == 1 + len(ROWS)
    timed = ("seconds", "finetune_seconds")
    assert [old[c] for c in COLUMNS if c not in timed] == [
        new[c] for c in COLUMNS if c not in timed
    ]
    assert old["seconds"] != new["seconds"]  # it was measured


def test_training_sees_every_image_once_and_calibration_is_the_pipelines():
    images = load_images(DIGITS, None, images=64, seed=3)
    ours = load_data(DataConfig(calibration=64), seed=3, size=28).calibration
    assert torch.equal(images.calibration.indices, ours.indices)
    assert torch.equal(images.training.indices.sort().values, torch.arange(len(images.training)))


def test_dense_network_is_trained_once_for_each_recipe(tmp_path):
    images = load_images(DIGITS, None, images=64, seed=0).limited(128, None)
    first = dense_network(DIGITS, images, None, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    written = file.stat().st_mtime_ns
    second = dense_network(DIGITS, images, None, tmp_path)
    assert file.stat().st_mtime_ns == written
    assert torch.equal(first.fc3.weight, second.fc3.weight)
    dense_network(DIGITS, images.limited(100, None), None, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_units_are_those_of_all_layers_but_the_classifier():
    images = load_images(DIGITS, None, images=64, seed=0)
    model = build_model(ModelSpec("lenet5", 10, 1, 28), seed=0)
    trial = Trial(DIGITS, model, images, seed=0)
    assert trial.units(model) == 6 + 16 + 120 + 84
    assert trial.goal("ratio:0.95").target == 11  # 5 % of 226 are 11.3


def test_a_network_without_norms_has_no_bn_scale():
    lenet, resnet = (
        build_model(ModelSpec(name, 10, channels, size), seed=0)
        for name, channels, size in (("lenet5", 1, 28), ("resnet20", 3, 32))
    )
    missing = set(methods_for(resnet, 2)) - set(methods_for(lenet, 2))
    assert [m.name for m in METHODS if m in missing] == [
        "Torch-Pruning BN scale, global",
        "Torch-Pruning BN scale, layer",
    ]


def test_without_training_there_is_one_start_only():
    model = build_model(ModelSpec("resnet20", 10, 3, 32), seed=0)
    assert [m.name for m in methods_for(model, 0) if m.name.startswith("mipp")] == ["mipp"]


def test_a_pattern_that_fits_no_method_is_refused():
    assert fitting("--methods", ["mipp*", "dense"], NAMES) == [
        "dense", "mipp", "mipp, refit start", TAUGHT
    ]  # fmt: skip
    with pytest.raises(SystemExit, match=r"'Torch-Pruning L3\*' fits none of\n  dense"):
        fitting("--methods", ["mipp*", "Torch-Pruning L3*"], NAMES)


def test_a_budget_of_information_is_refused():
    with pytest.raises(BudgetError, match=r"nats:0.1 cannot be met by every method"):
        checked(["macs:0.50", "nats:0.1"])


def test_table_has_means_and_deviations_over_seeds():
    points = [point(seed=seed, raw=raw, macs=30.0) for seed, raw in enumerate((80.0, 82.0, 87.0))]
    (row,) = table(points, NAMES)
    assert row["raw"] == f"83.00 ± {statistics.stdev([80, 82, 87]):.2f}" == "83.00 ± 3.61"
    assert (row["seeds"], row["MACs %"], row["refit"]) == (3, "30.0", None)


def test_tables_are_shown_for_each_setting_by_name(finished, capsys):
    show(list(read(finished).values()))
    shown = capsys.readouterr().out
    assert "workload lenet5, budget ratio:0.5, images 64, dense_images 1437," in shown
    assert "test_images 200, epochs 1, precision float32\n" in shown
    assert all(f"\n{name}  " in shown for name in ROWS)


def test_verdicts_compare_the_best_of_both_sides():
    points = [
        point(recalibrated=70.0, refit=83.0, finetuned=79.0),
        point(method="mipp, refit start", refit=83.0, finetuned=81.5),
        point(method="taylor, layer", refit=99.0, finetuned=99.0),
        point(method="Torch-Pruning L1, layer", raw=10.0, recalibrated=58.0, finetuned=78.0),
        point(method="Torch-Pruning L1, global", raw=64.0, recalibrated=47.0, finetuned=77.0),
    ]
    untrained, finetuned = verdicts(points)
    assert untrained == (
        "no training: mipp (refit) 83.00 %, best of Torch-Pruning L1, global (raw) 64.00 %: "
        "+19.00 points"
    )
    assert finetuned.endswith("L1, layer (fine-tuned) 78.00 %: +3.50 points")


def test_who_is_taught_is_compared_with_who_is_taught():
    taught = point(method=TAUGHT, finetuned=85.0)
    rival = point(method="Torch-Pruning LAMP, layer", finetuned=80.0)
    assert verdicts([taught, rival]) == []
    (verdict,) = verdicts([taught, rival, rival | {"method": f"{rival['method']}, taught"}])
    assert verdict.startswith(f"taught: {TAUGHT} (fine-tuned) 85.00 %")
    assert verdict.endswith("LAMP, layer, taught (fine-tuned) 80.00 %: +5.00 points")


def test_a_difference_has_its_standard_error_on_the_seeds_of_both():
    points = [
        *(point(seed=seed, refit=refit) for seed, refit in enumerate((80.0, 82.0, 81.0))),
        *(
            point(method="Torch-Pruning L1, layer", seed=seed, raw=raw)
            for seed, raw in enumerate((70.0, 78.0))
        ),
    ]
    (untrained,) = verdicts(points)
    assert untrained.endswith(": +7.00 ± 3.00 points")  # of 10 and 4, whose deviation is sqrt(18)


def test_page_has_a_section_for_every_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = points_in(FILE)
    for values in (
        {"raw": 12.5},
        {"budget": "macs:0.5", "epochs": 0},
        {"epochs": 30, "precision": "bfloat16"},
    ):
        points.add(point(**values))
    write_page()
    page = (tmp_path / "docs/accuracy.md").read_text()
    assert "## resnet20, `macs:0.3`, 2 epochs of fine-tuning" in page
    assert "## resnet20, `macs:0.5`, no training" in page
    assert "## resnet20, `macs:0.3`, 30 epochs of fine-tuning in bfloat16" in page
    assert page.count("--precision") == page.count("--precision bfloat16`") == 1
    assert "| mipp | 1 | 12.50 |" in page
