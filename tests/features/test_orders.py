"""Orders of features against slow twins: refits for leaving, determinants for taking."""

import numpy as np
import pytest
import torch

from mipp.features.orders import conditional_information, eliminate, table, take
from mipp.information.estimators import ESTIMATORS
from mipp.settings import Gaussian

SETTINGS = Gaussian(resolution=0.2, ridge=1e-9)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 7)) @ rng.normal(size=(7, 7))
    y = x[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(400, 2))
    return torch.from_numpy(x - x.mean(0)), torch.from_numpy(y - y.mean(0))


def joint(x, y, columns):
    """Nats of these columns with each target, at the resolution, added up."""
    total = y.square().mean(0)
    left = total
    if columns:
        solved = torch.linalg.lstsq(x[:, columns], y).solution
        left = (y - x[:, columns] @ solved).square().mean(0)
    noise = SETTINGS.resolution * total
    return float((0.5 * torch.log((total + noise) / (left + noise))).sum())


def test_leaving_is_that_of_refits(rows):
    x, y = rows
    left, gone = list(range(7)), []
    while len(left) > 2:
        each = {c: joint(x, y, [k for k in left if k != c]) for c in left}
        worst = max(each, key=each.get)
        gone.append(worst)
        left.remove(worst)
    found = eliminate(table(x, y), ESTIMATORS["gaussian"], SETTINGS, 0, 2)
    assert found.kept == left
    assert found.gone == gone[::-1]
    for place, column in enumerate(gone):
        before = [c for c in range(7) if c not in gone[:place]]
        after = [c for c in before if c != column]
        lost = joint(x, y, before) - joint(x, y, after)
        assert found.nats[column] == pytest.approx(lost, abs=1e-6)


def noisy_covariance(x, y):
    both = torch.cat([x, y], 1)
    covariance = both.T @ both / len(x)
    return covariance, covariance + torch.diag(SETTINGS.resolution * covariance.diagonal())


def mutual(covariance, left, right):
    """I(left; right) of Gaussian variables, by determinants."""

    def log(rows):
        return torch.logdet(covariance[rows][:, rows])

    return float(log(left) + log(right) - log([*left, *right])) / 2


def test_conditional_information_is_that_of_determinants(rows):
    x, y = rows
    covariance, noisy = noisy_covariance(x, y)
    found = conditional_information(covariance, 7, ridge=1e-12, resolution=SETTINGS.resolution)
    targets = [7, 8]
    for i in range(7):
        for j in range(7):
            told = mutual(noisy, [i, j], targets) - mutual(noisy, [j], targets) if i != j else 0
            assert found[i, j] == pytest.approx(told, abs=1e-8)


@pytest.mark.parametrize("order", ["mrmr", "mifs", "cmim"])
def test_taking_is_that_of_the_equations(rows, order):
    x, y = rows
    covariance, noisy = noisy_covariance(x, y)
    targets = [7, 8]
    alone = [mutual(noisy, [i], targets) for i in range(7)]

    def worth(i, taken):
        shared = [mutual(noisy, [i], [j]) for j in taken]
        if order == "mrmr":
            return alone[i] - (sum(shared) / len(taken) if taken else 0)
        if order == "mifs":
            return alone[i] - 0.5 * sum(shared)
        given = [mutual(noisy, [i, j], targets) - alone[j] for j in taken]
        return min([alone[i], *given])

    taken = []
    while len(taken) < 7:
        taken.append(max((i for i in range(7) if i not in taken), key=lambda i: worth(i, taken)))
    found = take(covariance, 7, order, SETTINGS, 3)
    assert found.kept == sorted(taken[:3])
    assert found.gone == taken[3:]
    assert found.nats == pytest.approx(alone, abs=1e-6)
