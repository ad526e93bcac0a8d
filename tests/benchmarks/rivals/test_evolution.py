"""The search over widths: budgets that are used up, a score by hand, and a search that finds."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.rivals.evolution import cut_to, evolved, ranked, sensitivity, to_budget
from mipp.budget import parse_budget
from mipp.pruning.pruner import Pruner
from mipp.selection.spending import fits

HALF = parse_budget("macs:0.5")


@pytest.fixture(scope="module")
def pruner():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
    ).eval()
    return Pruner(model, torch.randn(64, 6))


@pytest.fixture(scope="module")
def order(pruner):
    return {name: np.arange(width) for name, width in pruner.graph.widths.items()}


@pytest.mark.parametrize("shape", [{"0": 12, "2": 8}, {"0": 1.0, "2": 7.0}, {"0": 40.0, "2": 1e-3}])
def test_widths_use_the_budget_up(pruner, shape):
    widths = to_budget(pruner.graph, shape, HALF)
    assert fits(pruner.graph, widths, HALF)
    more = {n: min(w + 1, pruner.graph.widths[n]) for n, w in widths.items()}
    assert not fits(pruner.graph, more, HALF)
    assert all(1 <= w <= pruner.graph.widths[n] for n, w in widths.items())


def test_sensitivity_is_the_sum_of_weights_times_slopes():
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False).double()
    x, y = torch.randn(5, 4).double(), torch.arange(5) % 3
    shares = (x @ model.weight.T).softmax(1)
    slope = (shares - nn.functional.one_hot(y, 3)).T @ x / 5
    expected = (model.weight * slope).abs().sum().item()
    assert sensitivity(model, (x, y)) == pytest.approx(expected, rel=1e-10)


def test_evolution_comes_to_the_best_width_and_keeps_it(pruner, order):
    def score(model):
        return -abs(model[0].out_features - 6.0)

    looked = list(islice(evolved(pruner, order, HALF, score, seed=0), 40))
    found = [abs(one.widths["0"] - 6) for one in looked]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    assert [one.networks for one in looked] == list(range(1, 41))
    assert all(fits(pruner.graph, one.widths, HALF) for one in looked)


def test_ranking_keeps_the_widths_of_the_highest_score(pruner, order):
    batch = torch.randn(16, 6), torch.arange(16) % 3
    looked = list(islice(ranked(pruner, order, HALF, batch, seed=0), 10))
    scores = [sensitivity(cut_to(pruner, one.widths, order).model, batch) for one in looked]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
