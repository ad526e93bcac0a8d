"""The trade-off curve of one measurement."""

import pytest
import torch
from digits_network import all_digits, residual
from torch.utils.flop_counter import FlopCounterMode

import mipp
from mipp.budget import Budget
from mipp.errors import BudgetError, ConfigError

BUDGETS = ("macs:1", "macs:0.7", "params:0.5", "macs:0.3")


@pytest.fixture(scope="module")
def pruner():
    images, labels = all_digits()
    return mipp.Pruner(residual(), [(images[:128], labels[:128])])


def validation():
    images, labels = all_digits()
    return list(zip(images[128:384].split(64), labels[128:384].split(64), strict=True))


def test_points_say_what_the_networks_cost(pruner):
    frontier = pruner.frontier(BUDGETS)
    for point in frontier.points:
        model = pruner.cut(pruner.plan(point.budget), mipp.NoRepair()).model
        with FlopCounterMode(display=False) as counter:
            model(all_digits()[0][:1])
        assert point.macs == counter.get_total_flops() // 2
        assert point.params == sum(p.numel() for p in model.parameters())
    assert frontier.points[0].macs_share == frontier.points[0].params_share == 1
    assert [row["budget"] for row in frontier.rows()] == list(BUDGETS)
    assert {row["metric"] for row in frontier.rows()} == {frontier.dense} == {None}


def test_information_lost_is_that_of_the_units_that_go_and_rises_as_networks_shrink(pruner):
    frontier = pruner.frontier(["macs:1", "macs:0.7", "macs:0.5", "macs:0.3"])
    lost = [point.lost for point in frontier.points]
    assert lost[0] == 0
    assert lost == sorted(set(lost))
    assert lost[-1] < 1
    plan = pruner.plan("macs:0.3")
    gone = sum(unit["conditional_nats"] for unit in plan.units() if not unit["kept"])
    assert lost[-1] == pytest.approx(gone / sum(plan.information.values()))


def test_nothing_is_lost_of_what_tells_nothing():
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    alike = mipp.Pruner(net, torch.zeros(64, 4))
    assert [point.lost for point in alike.frontier(["macs:0.5"]).points] == [0.0]


def test_scores_tell_no_information(pruner):
    (point,) = pruner.frontier(["macs:0.5"], ranking=pruner.rank("l1")).points
    assert point.lost is None


def test_metric_is_measured_where_it_is_asked_for(pruner):
    held = validation()
    frontier = pruner.frontier(BUDGETS, held, measured=["macs:0.3", Budget("macs", 1.0)])
    every = {point.budget: point.metric for point in frontier.points}
    assert every["macs:0.7"] is every["params:0.5"] is None
    assert every["macs:1"] == frontier.dense
    model = pruner.cut(pruner.plan("macs:0.3")).model
    with torch.no_grad():
        hits = torch.cat([model(x).argmax(1) == y for x, y in held])
    assert every["macs:0.3"] == pytest.approx(100 * hits.double().mean().item())
    assert f"{every['macs:0.3']:.2f}" in str(frontier)
    assert "metric of the dense network" in str(frontier)


def test_budget_that_cannot_be_reached_is_refused(pruner):
    with pytest.raises(BudgetError, match="cannot be reached"):
        pruner.frontier(["macs:0.5", "macs:0.001"])


def test_points_that_cannot_be_measured_are_refused(pruner):
    with pytest.raises(ConfigError, match="without validation"):
        pruner.frontier(["macs:0.5"], measured=["macs:0.5"])
    with pytest.raises(ConfigError, match=r"got macs:0\.4 beside them"):
        pruner.frontier(["macs:0.5"], validation(), measured=["macs:0.4"])
