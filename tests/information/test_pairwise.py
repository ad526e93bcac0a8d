"""Information of single channels and of two of them, beside determinants and a closed form."""

import numpy as np
import pytest
import torch
from oracles import bivariate_normal_nats, normal_nats, rows_of_pair

from mipp.information.pairwise import pairwise_information

CHANNELS, BLOCK, TARGETS = 4, 3, 5


def noisy(covariance, ridge, resolution):
    variances = np.diag(covariance)
    return covariance + np.diag(resolution * variances + ridge * variances.mean())


def between(covariance, one, other):
    """I of two sets of jointly normal features, by determinants."""
    both = [*one, *other]
    return normal_nats(covariance[np.ix_(both, both)], len(one))


@pytest.fixture
def covariance(seed):
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=200, channels=CHANNELS, block=BLOCK, targets=TARGETS)
    return np.cov(np.column_stack([x.reshape(200, -1), y]).T)


def test_pairwise_information_matches_determinants(covariance):
    settings = {"ridge": 0.01, "resolution": 0.3}
    found = pairwise_information(torch.tensor(covariance), CHANNELS, BLOCK, **settings)
    expected = noisy(covariance, 0.01, 0.3)
    features = np.arange(CHANNELS * BLOCK).reshape(CHANNELS, BLOCK)
    targets = range(CHANNELS * BLOCK, CHANNELS * BLOCK + TARGETS)
    for a in range(CHANNELS):
        alone = between(expected, features[a], targets)
        assert float(found.relevance[a]) == pytest.approx(alone, rel=1e-9)
        for b in range(CHANNELS):
            shared = between(expected, features[a], features[b]) if a != b else 0.0
            assert float(found.redundancy[a, b]) == pytest.approx(shared, rel=1e-9)


def test_two_normals_share_what_the_closed_form_says():
    joint = torch.tensor([[1.0, 0.6, 0.5], [0.6, 1.0, 0.0], [0.5, 0.0, 1.0]]).double()
    found = pairwise_information(joint, 2, 1, ridge=0.0, resolution=1e-9)
    assert float(found.redundancy[0, 1]) == pytest.approx(bivariate_normal_nats(0.6), rel=1e-6)
    assert found.relevance.tolist() == pytest.approx([bivariate_normal_nats(0.5), 0], abs=1e-6)


def test_copies_and_constants_have_finite_information():
    joint = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).double()
    found = pairwise_information(joint, 2, 1, ridge=1e-3, resolution=0.5)
    noise = 1.5 + 1e-3 * 2 / 3
    assert float(found.redundancy[0, 1]) == pytest.approx(bivariate_normal_nats(1 / noise))
    assert found.relevance.tolist() == [0, 0]
