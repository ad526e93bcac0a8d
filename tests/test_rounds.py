"""Pruning in rounds: the budgets on the way, and a run that comes to the last of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from mipp.budget import Budget
from mipp.checkpoint import load_checkpoint
from mipp.config import load_params
from mipp.cut import apply_selection
from mipp.disk.storage import Workdir
from mipp.errors import ConfigError, CutError
from mipp.metrics import count_macs, count_params
from mipp.report.run import read_run
from mipp.selection.selection import Selection
from mipp.stages import finetune, run_all
from mipp.stages.rounds import budgets_of, epochs_of
from tests.smallest_run import SMALLEST

pytestmark = pytest.mark.usefixtures("few_figures")
ROUNDS = (
    *SMALLEST,
    "model.name=lenet5",
    "data.size=12",
    "finetune.epochs=4",
    "finetune.rounds=3",
    "train.epochs=2",
)


class Kill(Exception):
    """What ends a run from outside."""


def params(*overrides):
    return load_params(overrides=[*ROUNDS, *overrides])


def test_cubic_budgets_follow_zhu_and_gupta():
    found = budgets_of(params("choose.budget=macs:0.3"))
    removed = [
        0.7 + (0.0 - 0.7) * (1 - i / 3) ** 3 for i in (1, 2, 3)
    ]  # their s_f, s_i, t / (n dt)
    assert [1 - budget.value for budget in found] == pytest.approx(removed)
    assert found[-1] == Budget("macs", 0.3)


@pytest.mark.parametrize(("budget", "last"), [("params:0.2", 0.2), ("ratio:0.8", 0.2)])
def test_geometric_budgets_take_the_same_share_each_time(budget, last):
    found = budgets_of(params(f"choose.budget={budget}", "finetune.round_budgets=geometric"))
    kept = [b.value if b.kind == "params" else 1 - b.value for b in found]
    assert kept == pytest.approx([last ** (i / 3) for i in (1, 2, 3)])


@pytest.mark.parametrize(("epochs", "rounds"), [(4, 3), (30, 5), (7, 7), (8, 1)])
def test_epochs_are_shared_out_to_the_last(epochs, rounds):
    found = epochs_of(epochs, rounds)
    assert sum(found) == epochs
    assert len(found) == rounds
    assert max(found) - min(found) <= 1


def test_budgets_without_steps_and_rounds_without_epochs_are_refused():
    with pytest.raises(ConfigError, match=r"cannot come to confidence:95 by steps"):
        budgets_of(params("choose.budget=confidence:95"))
    with pytest.raises(ConfigError, match=r"rounds=5 cannot share out finetune.epochs=4"):
        params("finetune.rounds=5")


def test_two_selections_are_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
    x = torch.randn(4, 1, 6, 6)
    first = Selection({"0": np.array([0, 2, 3, 5])}, {"0": 6}, "l1")
    second = Selection({"0": np.array([1, 3])}, {"0": 4}, "l1")
    twice = apply_selection(apply_selection(model, first, x[:1]), second, x[:1])
    once = apply_selection(model, first.then(second), x[:1])
    assert torch.equal(twice(x), once(x))
    assert once[0].out_channels == 2
    with pytest.raises(CutError, match=r"Expected 4 channels, as the first leaves, got 6"):
        first.then(first)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    work = tmp_path_factory.mktemp("rounds")
    run_all(Workdir(work), params())
    return work


def test_a_run_in_rounds_comes_to_its_budget_by_steps(pruned):
    dense = load_checkpoint(pruned / "train/model.safetensors")
    final = load_checkpoint(pruned / "finetune/model.safetensors")
    rounds = json.loads((pruned / "finetune/rounds.json").read_text())
    assert [one["epochs"] for one in rounds] == [1, 1, 2]
    for one, budget in zip(rounds, budgets_of(params()), strict=True):
        assert one["budget"] == str(budget)
        assert budget.value - 0.1 < one["macs"] <= budget.value
    shares = count_macs(final.model, final.shape) / count_macs(dense.model, dense.shape)
    assert shares == rounds[-1]["macs"]
    assert count_params(final.model) / count_params(dense.model) == rounds[-1]["params"]
    assert final.selection.width == {
        group: len(units) for group, units in read_run(pruned).units.items()
    }


def test_report_and_history_are_of_all_rounds(pruned):
    history = json.loads((pruned / "finetune/history.json").read_text())
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    run = read_run(pruned)
    final = load_checkpoint(pruned / "finetune/model.safetensors").selection
    assert {g: sum(u.kept for u in units) for g, units in run.units.items()} == final.counts()
    page = (pruned / "report/report.md").read_text()
    assert "in 3 rounds" in page
    for number, one in enumerate(run.rounds, 1):
        share = f"{100 * one['macs']:.1f}"
        assert any(f"| {number} |" in line and share in line for line in page.splitlines())


def test_a_run_killed_in_its_last_round_goes_on_from_there(pruned, tmp_path, monkeypatch):
    trained, calls = finetune.train_network, []

    def killed(*arguments):
        calls.append(arguments[-1])
        if len(calls) == 3:
            raise Kill
        return trained(*arguments)

    monkeypatch.setattr(finetune, "train_network", killed)
    with pytest.raises(Kill):
        run_all(Workdir(tmp_path), params())
    assert calls == [0, 1, 2]
    run_all(Workdir(tmp_path), params())
    assert calls == [0, 1, 2, 2]  # epochs before each training
    for name in ("model.safetensors", "history.json", "rounds.json"):
        assert (tmp_path / "finetune" / name).read_bytes() == (
            pruned / "finetune" / name
        ).read_bytes()
    assert not list(tmp_path.glob(".finetune*"))
