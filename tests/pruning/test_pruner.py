"""Measured once, planned for many budgets: the same answers as one call after the other."""

import copy
from dataclasses import replace
from fnmatch import fnmatch

import pytest
import torch
from oracles import build_small, images_for

import mipp
from mipp.errors import BudgetError, ConfigError
from mipp.pruning.calibration import Calibration, Held
from mipp.selection.spending import spent
from mipp.settings import (
    Criterion,
    Gaussian,
    Limits,
    Mipp,
    NoRepair,
    Recalibrate,
    Reconstruction,
    Refit,
)
from mipp.sources import files_of

IMAGES = 96
BUDGETS = ("macs:0.7", "macs:0.5", "macs:0.3")
QUICK = Reconstruction(rows=64, width=8, epochs=2, retrain_epochs=1)


class Counting(Held):
    """Held images that count the passes to the end of them; a look at the first is none."""

    passes = 0

    def inputs(self):
        yield from super().inputs()
        self.passes += 1


class ReadAnew:
    """Images that are made again for every pass, in batches."""

    def count(self):
        return IMAGES

    def example(self):
        return images_for("lenet5", 1)

    def inputs(self):
        return (batch for batch, _ in self.labelled())

    def labelled(self):
        images = images_for("lenet5", IMAGES)
        return zip(images.split(32), (torch.arange(IMAGES) % 10).split(32), strict=True)


@pytest.fixture
def model():
    return build_small("lenet5")


@pytest.fixture
def loader():
    labels = torch.arange(IMAGES) % 10
    return list(zip(images_for("lenet5", IMAGES).split(32), labels.split(32), strict=True))


@pytest.fixture
def counted(model, loader):
    return mipp.Pruner(model, Counting(model, loader, IMAGES))


def kept(selection):
    return {group: channels.tolist() for group, channels in selection.kept.items()}


def test_three_budgets_read_the_images_once(counted):
    ranking = counted.rank()
    plans = [counted.plan(budget, ranking) for budget in BUDGETS]
    assert counted.calibration.passes == 1
    assert [plan.spending()["macs"] <= float(plan.budget.value) for plan in plans] == [True] * 3
    assert len({str(kept(plan.selection)) for plan in plans}) == 3


def test_plans_without_a_ranking_share_one(counted):
    for budget in BUDGETS:
        counted.plan(budget)
    assert counted.calibration.passes == 1


def test_rankings_share_what_they_measure_alike(counted):
    first = counted.rank(Mipp(order="mi"))
    second = counted.rank(Mipp(position_weight=0.0))
    assert first.estimates is second.estimates
    assert counted.calibration.passes == 1
    third = counted.rank(Mipp(Gaussian(resolution=1.0)))
    assert third.estimates is not first.estimates
    assert counted.calibration.passes == 2


def test_scores_are_asked_for_once(counted):
    ranking = counted.rank(Criterion("hrank"))
    passes = counted.calibration.passes
    for budget in BUDGETS:
        counted.plan(budget, ranking)
    assert counted.calibration.passes == passes


@pytest.mark.parametrize("method", ["mipp", "l1", "taylor"])
def test_plans_are_those_of_one_call_each(model, loader, method):
    pruner = mipp.Pruner(model, loader)
    ranking = pruner.rank(method)
    for budget in BUDGETS:
        found = pruner.cut(pruner.plan(budget, ranking))
        alone = mipp.prune(model, loader, budget, method=method)
        assert found.selection.to_json() == alone.selection.to_json()
        for name, tensor in alone.model.state_dict().items():
            assert torch.equal(tensor, found.model.state_dict()[name]), name
        assert replace(found.report, seconds=0) == replace(alone.report, seconds=0)


@pytest.mark.parametrize("estimator", [Gaussian(), QUICK], ids=["closed form", "perceptrons"])
def test_confidence_may_follow_other_budgets(model, loader, estimator):
    pruner = mipp.Pruner(model, loader)
    ranking = pruner.rank(Mipp(estimator))
    pruner.plan("ratio:0.5", ranking)
    later = pruner.plan("confidence:95", ranking)
    alone = pruner.plan("confidence:95", pruner.rank(Mipp(estimator), "confidence:95"))
    assert kept(later.selection) == kept(alone.selection)
    assert later.threshold is None


def test_confidence_known_beforehand_reads_the_images_once(counted):
    ranking = counted.rank(Mipp(), "confidence:95")
    counted.plan("confidence:95", ranking)
    counted.plan("confidence:80", ranking)
    assert counted.calibration.passes == 1


def test_images_read_anew_for_every_pass_give_what_held_ones_give(model, loader):
    assert isinstance(ReadAnew(), Calibration)
    for method in ("mipp", "taylor"):
        anew, held = (mipp.Pruner(model, images) for images in (ReadAnew(), loader))
        found, expected = (p.cut(p.plan("macs:0.5", p.rank(method))) for p in (anew, held))
        assert kept(found.selection) == kept(expected.selection)
        for name, tensor in expected.model.state_dict().items():
            torch.testing.assert_close(found.model.state_dict()[name], tensor)


def test_network_is_left_and_cuts_are_apart(model, loader):
    before = copy.deepcopy(model.state_dict())
    pruner = mipp.Pruner(model, loader)
    plan = pruner.plan("macs:0.5")
    bare, fitted = pruner.cut(plan, NoRepair()).model, pruner.cut(plan, Refit(ridge=0.1)).model
    again = pruner.cut(plan, NoRepair()).model
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert not torch.equal(bare.fc2.weight, fitted.fc2.weight)
    assert torch.equal(bare.fc2.weight, again.fc2.weight)


def test_repair_settings_change_the_network(model, loader):
    pruner = mipp.Pruner(model, loader)
    plan = pruner.plan("macs:0.3", pruner.rank("l1"))

    def weights(repair):
        return torch.cat([w.flatten() for w in pruner.cut(plan, repair).model.parameters()])

    every = [weights(repair) for repair in (Refit(), Refit(ridge=1.0), Refit(rows=200), NoRepair())]
    for i, one in enumerate(every):
        assert not any(torch.equal(one, other) for other in every[i + 1 :])
    # without batch-norm there is nothing to recalibrate
    assert torch.equal(weights(Recalibrate()), every[-1])


# What a plan says


@pytest.mark.parametrize("method", ["mipp", "l1"])
def test_every_unit_has_a_row_that_says_why(model, loader, method):
    pruner = mipp.Pruner(model, loader)
    plan = pruner.plan("macs:0.5", pruner.rank(method))
    rows = plan.units()
    stays = {(row["group"], row["channel"]) for row in rows if row["kept"]}
    assert stays == {(g, c) for g, channels in kept(plan.selection).items() for c in channels}
    assert len(rows) == sum(pruner.graph.widths.values())
    whys = (
        {row["why"] for row in rows if row["kept"]},
        {row["why"] for row in rows if not row["kept"]},
    )
    assert whys[0].isdisjoint(whys[1])


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_rows_of_scores_rank_from_the_best_on(model, loader, scope):
    pruner = mipp.Pruner(model, loader)
    rows = pruner.plan("ratio:0.5", pruner.rank(Criterion("l1", scope))).units()
    for group in pruner.graph.widths if scope == "layer" else "*":
        mine = [row for row in rows if fnmatch(row["group"], group)]
        ordered = sorted(mine, key=lambda row: row["rank"])
        assert [row["rank"] for row in ordered] == list(range(1, len(mine) + 1))
        scores = [row["score"] for row in ordered]
        assert scores == sorted(scores, reverse=True)
        assert {row["why"] for row in mine} <= {"high score", "low score", "spare", "floor"}


def test_rows_of_scores_name_floors_limits_and_rounding(model, loader):
    pruner = mipp.Pruner(model, loader)
    ranking = pruner.rank("l1")

    def whys(budget, **limits):
        rows = pruner.plan(budget, ranking, Limits(**limits)).units()
        return {row["why"] for row in rows}

    assert "floor" in whys("ratio:0.9", min_channels=4)
    assert "limit" in whys("ratio:0.5", limits={"conv*": 0.1})
    rounded = whys("macs:0.6", round_to=4)
    assert {"rounded", "rounded off"} & rounded


def test_spending_is_that_of_the_counts(model, loader):
    pruner = mipp.Pruner(model, loader)
    plan = pruner.plan("params:0.4")
    counts = plan.selection.counts()
    expected = {kind: spent(pruner.graph, counts, kind) for kind in ("units", "params", "macs")}
    assert plan.spending() == expected
    assert plan.left_whole == {"fc3": "feeds the network's output"}
    assert f"params {100 * expected['params']:.1f} %" in str(plan)


# Settings belong to their method


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (Criterion, {"method": "l1", "order": "mi"}),
        (Criterion, {"method": "l1", "estimator": Gaussian()}),
        (Mipp, {"scope": "layer"}),
        (Gaussian, {"width": 64}),
        (Reconstruction, {"ridge": 1e-3}),
        (Recalibrate, {"ridge": 0.1}),
        (NoRepair, {"rows": 8}),
        (Refit, {"epochs": 1}),
    ],
)
def test_option_that_a_method_does_not_have_cannot_be_written(kind, option):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        kind(**option)


@pytest.mark.parametrize(
    ("method", "budget", "used", "unused"),
    [
        (Mipp(), "macs:0.5", {"rows": "8192", "price": "macs"}, {"margin", "param_weight"}),
        (Mipp(), "ratio:0.5", {"param_weight": "0.2", "price": "unit"}, {"sure", "repeats"}),
        (Mipp(), "nats:0.1", {"order": "best-first"}, {"worth", "margin"}),
        (Mipp(), "confidence:95", {"margin": "0.001", "repeats": "5"}, {"worth", "price"}),
        (Mipp(QUICK), "confidence:95", {"width": "8"}, {"ridge", "side_by_side"}),
        (Criterion("l1"), "macs:0.5", {"scope": "global"}, {"order", "estimator", "resolution"}),
    ],
)
def test_provenance_holds_what_was_used_and_nothing_else(
    model, loader, method, budget, used, unused
):
    pruner = mipp.Pruner(model, loader, seed=3)
    plan = pruner.plan(budget, pruner.rank(method, budget))
    expected = {"budget": budget, "seed": "3", **used}
    assert expected.items() <= plan.selection.provenance.items()
    assert unused.isdisjoint(plan.selection.provenance)


def test_refusals_speak_of_the_value_that_was_written(model, loader):
    pruner = mipp.Pruner(model, loader)
    with pytest.raises(BudgetError, match=r"^budget=nats:1 asks .*only method=mipp"):
        pruner.plan("nats:1", pruner.rank("l1"))
    with pytest.raises(BudgetError, match=r"(?s)^budget=ratio:0.99 cannot.* min_channels, limits"):
        pruner.plan("ratio:0.99", limits=Limits(min_channels=5))
    with pytest.raises(ConfigError, match=r"(?s)order=best-first.*Expected order=mi"):
        pruner.plan("confidence:95", pruner.rank(Mipp(order="best-first")))


# The core


def test_core_knows_no_configuration_yaml_or_disk():
    found = {file.name for file in files_of(["mipp.pruning.oneshot", "mipp.pruning.pruner"])}
    assert {"pruner.py", "settings.py", "budget.py"} <= found
    assert {"config.py", "yaml_values.py", "storage.py", "workdir.py"}.isdisjoint(found)
