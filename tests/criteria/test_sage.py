"""SAGE's values of units against those of all subsets of them."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from mipp.criteria import CRITERIA, CriterionInput
from mipp.graph import build_graph
from mipp.settings import Gaussian

UNITS = 5


def told(hidden, y, units):
    """Nats of some units with the outputs, by the normal equations."""
    x, settings = hidden - hidden.mean(0), Gaussian()
    covariance = np.cov(x.T, bias=True)
    covariance += settings.ridge * covariance.diagonal().mean() * np.eye(UNITS)
    variance = y.var(0)
    cross = x.T @ (y - y.mean(0)) / len(y)
    of = list(units)
    explained = (cross[of] * np.linalg.solve(covariance[np.ix_(of, of)], cross[of])).sum(0)
    floor = settings.resolution * variance
    return 0.5 * np.log((variance + floor) / (variance - explained + floor)).sum()


def shapley(hidden, y):
    values = np.zeros(UNITS)
    for unit in range(UNITS):
        others = [u for u in range(UNITS) if u != unit]
        for k in range(UNITS):
            weight = math.factorial(k) * math.factorial(UNITS - 1 - k) / math.factorial(UNITS)
            for subset in itertools.combinations(others, k):
                added = told(hidden, y, (*subset, unit)) - told(hidden, y, subset)
                values[unit] += weight * added
    return values


@pytest.mark.parametrize("readers", [1, 2])
def test_values_are_those_of_all_subsets_and_add_up(readers, seed):
    torch.manual_seed(seed)
    heads = nn.ModuleList(nn.Linear(UNITS, 3) for _ in range(readers))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.heads = nn.Linear(4, UNITS), heads

        def forward(self, x):
            hidden = self.first(x).relu()
            return sum(head(hidden) for head in self.heads)

    model, images = Net().double(), torch.randn(300, 4).double()
    batches = [(images, torch.zeros(300).long())]
    given = CriterionInput(model, build_graph(model, images[:1]), lambda: batches, seed)
    found = CRITERIA["sage"](given)["first"]
    with torch.no_grad():
        hidden = model.first(images).relu()
        exact = sum(shapley(hidden.numpy(), head(hidden).numpy()) for head in heads)
    assert found.sum() == pytest.approx(exact.sum(), rel=1e-9)
    np.testing.assert_allclose(found, exact, atol=0.1 * np.ptp(exact))
