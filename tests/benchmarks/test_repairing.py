"""The benchmark of repairs: units under a budget, what is measured, and the page's verdicts."""

import numpy as np
import pytest
import torch

from benchmarks.accuracy import dropped
from benchmarks.accuracy.methods import Trial
from benchmarks.accuracy.repairing_methods import (
    METHODS,
    REPAIRS,
    RIVALS,
    at_our_widths,
    by_information,
    measure,
    pruner_of,
    scores_of,
    uniform,
)
from benchmarks.accuracy.repairing_page import FILE, best, points_in, write_page
from benchmarks.accuracy.workloads import Workload, load_images
from mipp.criteria import CRITERIA
from mipp.models import ModelSpec, build_model

BUDGET = "macs:0.5"


def trial_of(model):
    workload = Workload("lenet5", "digits", "none", (), (), None)
    images = load_images(workload, None, images=64, seed=0).limited(None, 64)
    dense = build_model(ModelSpec(model, 10, 1, 28), seed=0).eval()
    return Trial(workload, dense, images, seed=0)


@pytest.fixture(scope="module")
def trial():
    return trial_of("lenet5")


@pytest.fixture(scope="module")
def residual():
    return trial_of("resnet20")


ONE_CRITERION = [
    name for name in METHODS if name.split(" ")[0] not in {*CRITERIA, "variance"} - {"l1"}
]


@pytest.mark.parametrize("name", [name for name in ONE_CRITERION if "distill" not in name])
def test_every_kind_of_method_meets_the_budget(name, trial):
    point = measure(trial, METHODS[name], BUDGET)
    assert 35 < point["macs"] <= 50
    assert 0 <= point["repaired"] <= 100
    assert ("recalibrated" in point) == (METHODS[name].kind == RIVALS)


def test_every_criterion_has_a_row_with_each_of_our_repairs():
    assert {f"{name} + {repair}" for name in CRITERIA for repair in REPAIRS} <= METHODS.keys()


def test_control_of_widths_keeps_as_many_units_as_we_do_those_of_highest_score(trial):
    ours, control = by_information(trial, BUDGET), at_our_widths("l1")(trial, BUDGET)
    assert control.counts() == ours.counts()
    for group, scores in scores_of(trial, "l1").items():
        kept = control.kept[group]
        assert scores[kept].min() >= np.delete(scores, kept).max(initial=-np.inf)


def test_rivals_leave_residual_streams_whole_and_take_the_same_share_of_every_block(residual):
    selection = uniform("l1")(residual, BUDGET)
    for group, width in selection.width.items():
        share = len(selection.kept[group]) / width
        hidden = group.endswith("conv1") and group != "conv1"
        assert share == pytest.approx(0.5, abs=0.04) if hidden else share == 1


@pytest.mark.slow
def test_corp_takes_as_large_a_share_of_queries_and_keys_as_of_hidden_channels_and_no_head():
    trial = trial_of("benchmarks.accuracy.networks:compact_transformer")
    method = METHODS["CORP, variance units"]
    selection = method.choose(trial, BUDGET)
    shares = {name: len(kept) / selection.width[name] for name, kept in selection.kept.items()}
    whole = {"stem.6", *(f"blocks.{block}.attn" for block in range(3))}
    assert {name for name, share in shares.items() if share == 1} == whole
    others = [share for name, share in shares.items() if name not in whole]
    assert len(others) == 2 + 3 + 3
    assert max(others) - min(others) < 2 / 32  # a unit of the narrowest
    assert 0.49 < trial.macs(method.repair(trial, selection)) / trial.macs(trial.dense) <= 0.5


def test_repairs_leave_the_dense_network_as_it_was(trial):
    dense = pruner_of(trial).model
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    for name in ("OSSCAR", "GRAIL, L1 units", "model folding, REPAIR", "l1 + refit"):
        measure(trial, METHODS[name], BUDGET)
    assert all(torch.equal(dense.state_dict()[name], before[name]) for name in before)


def point(method, seed=0, **values):
    settings = {"workload": "resnet20", "budget": BUDGET, "images": 2048, "test_images": 10000}
    sizes = {"macs": 50.0, "params": 50.0, "seconds": 1.0, "commit": "abc", "versions": "torch 2"}
    made = {"repaired": 10.0, "recalibrated": None}
    return {**settings, "method": method, "seed": seed, **sizes, **made, **values}


def test_best_of_a_kind_is_the_highest_mean_over_seeds_of_either_column():
    points = [
        point("OSSCAR", repaired=70.0, recalibrated=76.0),
        point("OSSCAR", seed=1, repaired=70.0, recalibrated=78.0),
        point("He 2017", repaired=76.5, recalibrated=10.0),
        point("l1 + refit", repaired=99.0),
    ]
    assert best(points, RIVALS, {"own"}) == (77.0, "OSSCAR")


def test_page_has_a_section_for_every_setting_with_a_verdict(tmp_path, monkeypatch):
    accuracy_of_the_dense_network = dropped.points_in(dropped.FILE).all()
    monkeypatch.chdir(tmp_path)
    for kept in accuracy_of_the_dense_network:
        dropped.points_in(dropped.FILE).add(kept)
    points = points_in(FILE)
    points.add(point("OSSCAR", repaired=70.0, recalibrated=76.0))
    points.add(point("mipp + refit", repaired=83.25))
    points.add(point("l1 + distill", repaired=84.0))
    points.add(point("mipp + distill", repaired=86.0))
    points.add(point("mipp + refit", repaired=75.0, budget="macs:0.3"))
    write_page()
    page = (tmp_path / "docs/repairing.md").read_text()
    assert "| OSSCAR | 1 | 50.0 | 70.00 | 76.00 | 1 |" in page
    assert "- mipp + refit 83.25; best of rivals with their own repair: OSSCAR 76.00: +7.25" in page
    assert "- mipp + distill 86.00; best of criteria with our repair: l1 + distill 84.00" in page
    assert "mipp + refit 83.25; best of criteria" not in page  # none was refitted alone
    assert "## resnet20, `macs:0.3`" in page
