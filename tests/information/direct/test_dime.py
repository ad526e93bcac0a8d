"""One predictor for all subsets: nats that are known, and what it says of single examples."""

import math

import numpy as np
import pytest
import torch

from mipp.direct_settings import Dime
from mipp.features import TERCSelector
from mipp.information.direct.masked import losses, random_subsets
from mipp.information.estimators import ESTIMATORS, PairData

ONE = torch.tensor([0])


def information(x, y, settings=None, seed=0):
    x, y = (torch.as_tensor(side, dtype=torch.float64) for side in (x, y))
    data = PairData("rows", len(x), x.shape[1], 1, lambda: [(x.unsqueeze(2), y)])
    settings = settings or Dime(rows=len(x), width=64, steps=300, batch_size=128)
    chosen = ESTIMATORS["dime"]
    return chosen.answers(chosen.prepare(data, settings, seed), data, settings, seed)


@pytest.fixture(scope="module")
def bits():
    """a xor b, of which neither tells anything alone, and a coin."""
    x = np.random.default_rng(0).integers(0, 2, (1200, 3))
    return information(x, (x[:, :1] ^ x[:, 1:2]))


def test_labels_have_their_information_for_every_subset(bits):
    subsets = [[], [0], [1], [2], [0, 2], [1, 2], [0, 1], [0, 1, 2]]
    truth = [0, 0, 0, 0, 0, 0, math.log(2), math.log(2)]
    assert bits.of_many(ONE, subsets) == pytest.approx(truth, abs=0.04)
    assert bits.joint(ONE) == bits.of_many(ONE, [[2, 1, 0]])[0]


def test_losses_of_all_channels_are_those_one_by_one(bits):
    elimination = bits.eliminate(ONE)
    assert elimination.losses().tolist() == pytest.approx([math.log(2)] * 2 + [0], abs=0.04)
    elimination.drop(0)
    assert elimination.losses().tolist() == pytest.approx([0, 0, 0], abs=0.04)


def test_value_network_expects_what_a_further_column_tells_once_one_is_known(bits):
    """Nothing beforehand; a bit of b once a is known, in every row; nothing of what is known."""
    assert bits.single(ONE).tolist() == pytest.approx([0, 0, 0], abs=0.06)
    expected = bits.expected([0])
    assert expected.shape == (400, 3)
    assert expected.mean(0).tolist() == pytest.approx([0, math.log(2), 0], abs=0.1)
    assert (expected.argmax(1) == 1).all()


def test_value_network_sees_which_column_a_row_needs():
    """The label is b where a is 1, and c where it is 0: after a, each row needs another one."""
    x = np.random.default_rng(1).integers(0, 2, (1500, 3))
    told = information(x, np.where(x[:, :1] == 1, x[:, 1:2], x[:, 2:]))
    a = told.state.rows.x[:500, 0, 0] > 0
    expected = told.expected([0])
    assert torch.equal(expected[:, 1] > expected[:, 2], a)
    assert expected[a].mean(0).tolist() == pytest.approx([0, math.log(2), 0], abs=0.15)


def test_numbers_have_the_information_of_normal_variables():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3000, 2))
    y = np.stack([0.6 * x[:, 0] + 0.8 * rng.normal(size=3000), rng.normal(size=3000)], 1)
    told = information(x, y)
    half = -math.log(1 - 0.36) / 2
    for targets, truth in (([0], half), ([1], 0), ([0, 1], half)):
        found = told.of_many(torch.tensor(targets), [[0], [1], [0, 1]])
        assert found == pytest.approx([truth, 0, truth], abs=0.04)
    assert told.single(torch.tensor([0])).tolist() == pytest.approx([half, 0], abs=0.04)
    assert told.single(torch.tensor([0, 1])).tolist() == pytest.approx([half, 0], abs=0.08)


def test_labels_alike_in_the_targets_that_count_are_one():
    """Shares of four labels of two bits; of the first bit alone they are added up."""
    classes = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    y = torch.tensor([[1.0, 0.0]])
    assert float(losses(shares.log(), y, classes, torch.tensor([0, 1]))) == pytest.approx(
        -math.log(0.3)
    )
    assert float(losses(shares.log(), y, classes, ONE)) == pytest.approx(-math.log(0.7))


def test_subsets_are_of_every_size_and_of_every_column_alike():
    known = random_subsets(6000, 4, torch.Generator().manual_seed(0))
    sizes = known.sum(1).long().bincount(minlength=5) / 6000
    assert sizes.tolist() == pytest.approx([0.2] * 5, abs=0.03)
    assert known.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.03)


def test_it_drives_the_selection_of_features():
    """The label is a xor b; c is a copy of a, and d a coin."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (1500, 4)).astype(float)
    x[:, 2] = x[:, 0]
    few = Dime(rows=1500, width=64, steps=300, batch_size=128)
    found = TERCSelector(2, estimator=few).fit(x, (x[:, 0] != x[:, 1]).astype(int))
    kept = found.get_support(indices=True).tolist()
    assert kept in ([0, 1], [1, 2])
