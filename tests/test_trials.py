"""Networks that `choose` tries: for a budget of accuracy, and to compare budgets in the report."""

import json

import fsspec
import pytest
import torch

from mipp.checkpoint import load_checkpoint
from mipp.cli import main
from mipp.config import load_params
from mipp.data import load_data
from mipp.disk.storage import Workdir
from mipp.errors import BudgetError, ConfigError
from mipp.pruning.drop import CLOSE
from mipp.pruning.drop_limit import drop_limit
from mipp.stages import STAGES, preflight, run_all, run_stage
from mipp.stages.choose import trade_off
from mipp.stages.pipeline import require_before
from mipp.stages.stage import declared, needs_run
from tests.smallest_run import SMALLEST

pytestmark = pytest.mark.xdist_group("trials")  # one process makes what all need
TINY = (*SMALLEST, "train.epochs=4", "finetune.epochs=0")
OF_19_UNITS = (*TINY, "model.name=test_neighbours:Tiny")
L1 = (*TINY, "choose.method=l1")
DROP = (*L1, "choose.budget=drop:8")
COMPARE = (*OF_19_UNITS, "choose.compare=[macs:0.7, params:0.2]")


def params_of(*overrides):
    return load_params(overrides=overrides)


def points_in(workdir):
    return json.loads((workdir / "choose/trade_off.json").read_text())


def validated(file):
    """Which of the validation images a network has right, by hand."""
    split = load_data(params_of(*TINY).data, seed=0, channels=1, size=8).validation
    model = load_checkpoint(file).model.eval()
    with torch.no_grad():
        hits = [model(x).argmax(1) == y for x, y in split.batches(64, device=torch.device("cpu"))]
    return torch.cat(hits)


def percent(file):
    return 100 * validated(file).double().mean().item()


@pytest.fixture(scope="module")
def dropped(tmp_path_factory):
    """A finished run whose network may lose eight points, which no test changes."""
    workdir = tmp_path_factory.mktemp("drop") / "work"
    run_all(Workdir(workdir), params_of(*DROP))
    return workdir


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A finished run that compares its budget with two others."""
    workdir = tmp_path_factory.mktemp("compare") / "work"
    run_all(Workdir(workdir), params_of(*COMPARE))
    return workdir


def test_network_of_a_drop_is_the_smallest_tried_that_surely_loses_no_more(dropped):
    found = points_in(dropped)
    assert found["dense"] == pytest.approx(percent(dropped / "train/model.safetensors"))
    tried = {p["budget"]: p for p in found["points"] if p["metric"] is not None}
    assert len(tried) == 6  # halvings to a 64th
    chosen = tried[found["chosen"]]
    assert found["dense"] - chosen["metric"] < found["fallen"] <= 8
    assert chosen["macs_share"] < 0.9
    too_small = [p for p in tried.values() if p["macs_share"] < chosen["macs_share"]]
    assert max(p["macs_share"] for p in too_small) > chosen["macs_share"] - 2 * CLOSE
    assert (
        f"at most {found['fallen']:.2f} points less" in (dropped / "report/report.md").read_text()
    )


def test_limit_of_a_drop_is_told_by_the_images_that_changed(dropped):
    dense = validated(dropped / "train/model.safetensors")
    refitted = validated(dropped / "prune/refit.safetensors")
    lost, gained = (dense & ~refitted).sum().item(), (refitted & ~dense).sum().item()
    limit = 100 * drop_limit(lost, gained, len(dense), 1 - 0.1 / 6)
    assert points_in(dropped)["fallen"] == pytest.approx(limit)


@pytest.mark.parametrize("repair", ["refit", "distilled", "recalibrated", "pruned"])
def test_metric_is_that_of_the_network_that_prune_leaves(repair, dropped, tmp_path):
    repairs = {
        "refit": [], "distilled": ["prune.repair=distill", "prune.steps=20"],
        "recalibrated": ["prune.refit=false"],
        "pruned": ["prune.refit=false", "prune.recalibrate=false"],
    }  # fmt: skip
    params, work = params_of(*L1, "choose.compare=[macs:0.9]", *repairs[repair]), tmp_path / "w"
    for stage in ("train", "choose", "prune"):
        run_stage(STAGES[stage], Workdir(work), params)
    found = points_in(work)
    (chosen,) = [p for p in found["points"] if p["budget"] == found["chosen"]]
    assert chosen["metric"] == pytest.approx(percent(work / f"prune/{repair}.safetensors"))


def test_settings_of_the_repair_count_where_networks_are_tried_and_nowhere_else(dropped):
    def runs(*overrides):
        return needs_run(STAGES["choose"], Workdir(dropped), params_of(*DROP, *overrides))

    assert not runs()
    assert not runs("finetune.epochs=1")
    assert runs("prune.ridge=0.1")
    for overrides in (TINY, COMPARE, DROP):
        counted = declared(STAGES["choose"], params_of(*overrides))
        assert ("prune" in counted) is (overrides != TINY)


def test_compared_budgets_leave_the_choice_as_it_is(compared, tmp_path):
    params = params_of(*OF_19_UNITS)
    for stage in ("train", "extract", "estimate", "choose"):
        run_stage(STAGES[stage], Workdir(tmp_path), params)
    assert not (tmp_path / "choose/trade_off.json").exists()
    for file in ("selection.json", "nodes.parquet", "summary.json"):
        assert (tmp_path / "choose" / file).read_bytes() == (
            compared / "choose" / file
        ).read_bytes()


def test_every_tenth_of_the_macs_is_foretold_as_the_command_does(compared):
    found = points_in(compared)
    assert {p["budget"] for p in found["points"] if p["metric"] is not None} == {
        "macs:0.7", "macs:0.5", "params:0.2",
    }  # fmt: skip
    tenths = [f"macs:{n / 10:g}" for n in range(9, 1, -1)]  # fewer cannot be reached
    foretold = trade_off(Workdir(compared), params_of(*COMPARE), tenths)
    points = {p["budget"]: p for p in found["points"]}
    assert points.keys() == {*tenths, "params:0.2"}
    for row in foretold.rows():
        assert points[row["budget"]] | {"metric": None} == row
    for ordered in (
        [-p["macs_share"] for p in found["points"]],
        [r["lost"] for r in foretold.rows()],
    ):
        assert ordered == sorted(ordered)


def test_budgets_are_foretold_from_a_url_that_another_machine_filled(
    compared, tmp_path, monkeypatch
):
    there = fsspec.filesystem("memory")
    there.put(str(compared), "/elsewhere/work", recursive=True)
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path))  # of a machine that has never seen it
    asked = params_of(*COMPARE), ["macs:0.5"]
    workdir = Workdir.open("memory://elsewhere/work")
    try:
        require_before("choose", workdir, asked[0])
        found = trade_off(workdir, *asked)
    finally:
        there.rm("/elsewhere", recursive=True)
    assert found == trade_off(Workdir(compared), *asked)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ([], 0, ""),
        (["estimate.resolution=3"], 2, "stage 'estimate' is out of date"),
        (["choose.estimator=neighbours"], 2, "stage 'estimate' is out of date"),
        (["choose.budget=macs:0.2"], 0, ""),
    ],
)
def test_budgets_are_foretold_by_nothing_but_current_estimates(
    changes, code, said, compared, capsys
):
    overrides = [f"--set={one}" for one in (*COMPARE, *changes)]
    asked = ["budget", "--workdir", str(compared), "--budgets", "macs:0.5", *overrides]
    assert main(asked) == code
    assert said in capsys.readouterr().err
    if not changes:
        assert main([*asked, "--budgets", "macs:0.0001"]) == 2
        assert "--budgets=macs:0.0001 cannot be reached" in capsys.readouterr().err


def test_report_shows_every_point(compared):
    page = (compared / "report/report.md").read_text()
    for point in points_in(compared)["points"]:
        assert f"| {point['budget']}" in page
    assert "| macs:0.5 (chosen)" in page
    assert (compared / "report/figures/trade-off.svg").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["data.validation=0"], "data.validation=0; set it to 0.1"),
        (["train.when=after-pruning", "finetune.epochs=10"], "got after-pruning"),
        (["choose.compare=[drop:1]"], "choose.compare: a drop"),
        (["choose.method=l3"], "did you mean"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_runs(changes, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        preflight(Workdir(tmp_path), params_of(*DROP, *changes))


def test_a_drop_that_the_validation_images_cannot_tell_is_refused_before_anything_runs(tmp_path):
    said = (
        r"144 validation inputs (.|\n)*449 or more(.|\n)* data.validation, (.|\n)*choose.drop_conf"
    )
    with pytest.raises(BudgetError, match=said):
        preflight(Workdir(tmp_path), params_of(*L1, "choose.budget=drop:1"))
    preflight(Workdir(tmp_path), params_of(*L1, "choose.budget=drop:1", "choose.drop_confidence=0"))


def test_a_compared_budget_out_of_reach_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(BudgetError, match=r"macs:0\.0001 cannot be reached"):
        preflight(Workdir(tmp_path), params_of(*TINY, "choose.compare=[macs:0.0001]"))


def test_too_few_rows_for_a_compared_confidence_are_refused_before_anything_runs(tmp_path):
    few = "data.calibration=20", "extract.rows=20", "extract.batch_size=8"
    params = params_of(*TINY, *few, "choose.compare=[confidence:95]")
    with pytest.raises(ConfigError, match=r"too few rows for estimate\.repeats=5"):
        preflight(Workdir(tmp_path), params)


def test_a_plan_of_a_drop_is_refused(compared):
    with pytest.raises(BudgetError, match="no budget of one plan"):
        trade_off(Workdir(compared), params_of(*COMPARE), ["drop:1"])
