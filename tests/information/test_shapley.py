"""Shapley values against those of all subsets."""

import itertools
import math

import numpy as np
import pytest
import torch

import mipp
from mipp.direct_settings import Histogram
from mipp.features import TERCSelector
from mipp.features.orders import table
from mipp.information import shapley
from mipp.information.estimators import ESTIMATORS
from mipp.information.shapley import gains, shapley_values
from mipp.settings import Gaussian

SETTINGS = Gaussian(ridge=1e-9, resolution=0.2)
TARGETS = torch.arange(2)


@pytest.fixture(scope="module")
def columns():
    """Six columns, one of them nearly a copy and one of noise, and two targets."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    x[:, 4] = x[:, 0] + 0.1 * rng.normal(size=300)
    y = x[:, :3] @ rng.normal(size=(3, 2)) + 0.5 * rng.normal(size=(300, 2))
    return x - x.mean(0), y - y.mean(0)


@pytest.fixture(scope="module")
def exact(columns):
    """Shapley values by all 64 subsets, each refitted by least squares."""
    x, y = columns
    told = {}
    for subset in itertools.chain(*(itertools.combinations(range(6), k) for k in range(7))):
        left = y
        if subset:
            left = y - x[:, subset] @ np.linalg.lstsq(x[:, subset], y, rcond=None)[0]
        noise = SETTINGS.resolution * y.var(0)
        told[subset] = 0.5 * np.log((y.var(0) + noise) / (left.var(0) + noise)).sum()
    found = np.zeros(6)
    for channel in range(6):
        for subset, nats in told.items():
            if channel not in subset:
                k = len(subset)
                weight = math.factorial(k) * math.factorial(5 - k) / math.factorial(6)
                found[channel] += weight * (told[tuple(sorted((*subset, channel)))] - nats)
    return found, told[tuple(range(6))]


@pytest.fixture(scope="module")
def gains_in(columns):
    x, y = columns
    data = table(torch.from_numpy(x), torch.from_numpy(y))
    state = ESTIMATORS["gaussian"].prepare(data, SETTINGS, 0)
    return lambda order: gains(state, TARGETS, order)


def test_mean_over_every_order_is_that_of_all_subsets(gains_in, exact):
    values, _ = exact
    orders = list(itertools.permutations(range(6)))
    mean = torch.stack([gains_in(order) for order in orders]).mean(0)
    assert mean.tolist() == pytest.approx(values.tolist(), abs=1e-6)


def test_sampled_values_add_up_and_are_within_their_errors(gains_in, exact, monkeypatch):
    monkeypatch.setattr(shapley, "PRECISION", 0.0)  # goes on to the end
    values, whole = exact
    apart = []
    for seed in range(5):
        found = shapley_values(gains_in, 6, torch.Generator().manual_seed(seed), most=60)
        assert found.orders == 60
        assert float(found.values.sum()) == pytest.approx(whole, abs=1e-6)
        apart.append((found.values.numpy() - values) / found.errors.numpy())
    assert np.abs(apart).max() < 4
    assert 0.5 < np.sqrt(np.square(apart).mean()) < 1.5  # errors are neither too small nor large


def test_sampling_ends_when_errors_are_small(gains_in, monkeypatch):
    monkeypatch.setattr(shapley, "PRECISION", 0.005)
    generator = torch.Generator().manual_seed(0)
    found = shapley_values(gains_in, 6, generator, most=2000)
    reach = found.values.max() - found.values.min()
    assert shapley.FEWEST < found.orders < 2000
    assert 0.9 * 0.005 * reach < found.errors.max() <= 0.005 * reach  # and no sooner


def test_selector_ranks_by_values_of_any_estimator():
    """x0 xor x1, of which neither tells anything alone: each has half of the bit."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=(2000, 3)).astype(float)
    y = (x[:, 0] != x[:, 1]).astype(int)
    counted = TERCSelector(2, order="sage", estimator=Histogram(rows=2000)).fit(x, y)
    assert counted.get_support(indices=True).tolist() == [0, 1]
    half = math.log(2) / 2
    assert counted.information_.tolist() == pytest.approx([half, half, 0], abs=0.01)
    assert counted.information_error_.max() < 0.01
    by_lines = TERCSelector(2, order="sage").fit(x, y)
    assert by_lines.information_.max() < 0.01


def test_copies_share_what_one_of_them_tells(columns):
    x, y = columns
    closed = mipp.Gaussian(ridge=1e-6)
    alone = TERCSelector(2, order="sage", estimator=closed).fit(x[:, :3], y).information_
    twice = TERCSelector(2, order="sage", estimator=closed).fit(x[:, [0, 1, 2, 0]], y)
    apart = abs(twice.information_[0] - twice.information_[3])
    assert apart < 4 * twice.information_error_[0]
    assert max(twice.information_[[0, 3]]) < 0.6 * alone[0]
    assert TERCSelector(2, order="mrmr").fit(x, y).information_error_ is None
