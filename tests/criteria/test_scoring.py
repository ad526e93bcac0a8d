"""Scores that a criterion gives a network are checked, and so are the network and the loss."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mipp
from mipp.criteria import CRITERIA, CriterionInput
from mipp.criteria.shared.elimination import score_by_elimination
from mipp.criteria.shared.scoring import score_units
from mipp.errors import ConfigError, DataError, MippError, ModelError, ScoreError
from mipp.graph import build_graph


def network(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(80, outputs),
    )  # fmt: skip


def given_for(model, labels=None, loss=None):
    images = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(24).roll(7) % 3 if labels is None else labels
    batches = [(images, labels)]
    return CriterionInput(model, build_graph(model, images[:1]), lambda: batches, 0, loss=loss)


def scored(method, given):
    return score_units(method, CRITERIA[method], given)


def loader(labels):
    return [(torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(1)), labels)]


@pytest.mark.parametrize("method", CRITERIA)
def test_filter_of_nan_is_refused_by_its_layer(method):
    model = network()
    with torch.no_grad():
        model[2].weight[1] = torch.nan
    data = loader(torch.arange(24).roll(7) % 3)
    with pytest.raises(ModelError, match=r"(?s)weight of module '2' holds NaN.*got 54 .* in 270"):
        mipp.prune(model, data, "ratio:0.5", method=method)


@pytest.mark.parametrize("method", ["l1", "taylor"])
def test_network_with_nan_is_not_pruned(method):
    model = network()
    with torch.no_grad():
        model[0].weight[3] = torch.nan
    with pytest.raises(MippError, match="'0'"):
        mipp.prune(model, loader(torch.arange(24).roll(7) % 3), "ratio:0.5", method=method)


def test_infinite_mask_is_no_reason_to_refuse():
    model = network()
    model.register_buffer("mask", torch.full((3,), -torch.inf))
    assert len(scored("l1", given_for(model))) == 2


def test_running_statistics_of_nan_are_refused():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(216, 3))
    model.eval()[1].running_var[0] = torch.nan
    with pytest.raises(ModelError, match="running_var of module '1' holds NaN"):
        mipp.prune(model, [torch.randn(8, 1, 8, 8)], "ratio:0.5", method="l1")


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (1, torch.zeros(24).long()),
        (1, torch.zeros(24, 1)),
        (3, torch.randn(24, 3)),
        (3, torch.full((24,), 3)),
    ],
    ids=["one class", "one value", "no shares", "out of range"],
)
@pytest.mark.parametrize("method", ["imp", "snip", "taylor"])
def test_cross_entropy_that_means_nothing_says_that_loss_mends_it(method, outputs, labels):
    with pytest.raises(DataError, match=r"(?s)cross entropy.*Expected .*got outputs.*pass loss="):
        scored(method, given_for(network(outputs), labels))


def test_soft_labels_are_shares_of_each_class():
    hard = torch.arange(24).roll(7) % 3
    expected, found = (
        scored("snip", given_for(network(), labels)) for labels in (hard, F.one_hot(hard).float())
    )
    for group in expected:
        np.testing.assert_allclose(found[group], expected[group], rtol=1e-4)


def test_network_of_one_output_is_pruned_by_its_loss():
    model, wanted = network(1), torch.randn(24, 1)
    with pytest.raises(DataError, match="pass loss="):
        mipp.prune(model, loader(wanted), "ratio:0.5", method="taylor")
    found = mipp.prune(model, loader(wanted), "ratio:0.5", method="taylor", loss=F.mse_loss)
    assert found.selection.units_removed() >= 0.5


@pytest.mark.parametrize("loss", ["constant", "nan"])
def test_loss_that_says_nothing_is_refused(loss):
    factor = {"constant": 0.0, "nan": torch.nan}[loss]
    given = given_for(network(), loss=lambda outputs, labels: factor * outputs.sum())
    match = {"constant": "tells no unit from another", "nan": "finite numbers, got nan"}[loss]
    for method in ("taylor", "snip", "snip-iterative", "grasp-iterative"):
        with pytest.raises(ScoreError, match=rf"(?s)method '{method}'.*{match}"):
            scored(method, given)


@pytest.mark.parametrize("method", ["l1", "random"])
def test_loss_that_nobody_asks_for_is_refused(method):
    labels = torch.arange(24).roll(7) % 3
    with pytest.raises(ConfigError, match=rf"(?s)loss has no effect with method='{method}'.*leave"):
        mipp.prune(network(), loader(labels), "ratio:0.5", method=method, loss=F.cross_entropy)


def test_pruner_ranks_by_methods_with_a_loss_and_without_one():
    pruner = mipp.Pruner(network(1), loader(torch.randn(24, 1)), loss=F.mse_loss)
    assert {m: len(pruner.rank(m).scores) for m in ("l1", "taylor")} == {"l1": 2, "taylor": 2}


def test_rounds_whose_units_have_died_still_end():
    """Units are told apart until two are left; from then on the criterion says nothing."""

    def score(alive):
        there = alive["a"].sum()
        return {"a": np.arange(4.0) if there > 2 else np.where(alive["a"], 0.0, np.nan)}

    found = score_by_elimination({"a": 4}, score, rounds=100)
    assert found["a"].tolist() == [0.25, 0.5, 1.0, 0.75]
