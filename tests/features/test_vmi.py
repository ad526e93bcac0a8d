"""The bound of variational information maximisation against its definition and the truth."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from mipp.errors import EstimationError
from mipp.features import TERCSelector
from mipp.features.vmi import STALLED, order_by_bound, take_by_bound


def information(x, y):
    """Of columns and labels, by counting all columns together; nats."""
    rows = [tuple(row) for row in x]
    both, left, right = Counter(zip(rows, y, strict=True)), Counter(rows), Counter(y)
    n = len(y)
    return sum(c / n * math.log(c * n / (left[r] * right[k])) for (r, k), c in both.items())


def share(x, y, column, value, label, given=None):
    """p(x_column = value | y = label, x_i = v) as counted; `given` is (i, v)."""
    rows = [r for r, k in zip(x, y, strict=True) if k == label]
    if given is not None:
        rows = [r for r in rows if r[given[0]] == given[1]]
    return np.mean([r[column] == value for r in rows]) if rows else 1.0


def bound(x, y, order):
    """E log q(y | x) / p(y), q as in the paper, written out."""
    told = 0.0
    for row, label in zip(x, y, strict=True):
        weights = {}
        for k in set(y):
            q = np.mean(y == k) * share(x, y, order[0], row[order[0]], k)
            for t, column in enumerate(order[1:], 1):
                each = [share(x, y, column, row[column], k, (i, row[i])) for i in order[:t]]
                q *= math.prod(each) ** (1 / t)
            weights[k] = q
        told += math.log(weights[label] / sum(weights.values()) / np.mean(y == label))
    return told / len(y)


@pytest.fixture
def drawn(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 150)
    x = np.stack([(y + rng.integers(0, 2, 150)) % 3, rng.integers(0, 3, 150), y // 2], 1)
    return np.column_stack([x, (x[:, 1] + y) % 2, rng.integers(0, 2, 150)]), y


def test_bound_is_that_of_its_definition_and_below_the_information(drawn):
    x, y = drawn
    order, alone, reached = order_by_bound(x, y)
    assert sorted(order) == list(range(5))
    assert alone == pytest.approx([information(x[:, [c]], y) for c in range(5)], abs=1e-12)
    begun = 0
    for place, told in enumerate(reached):
        if place and told < reached[place - 1] + STALLED:
            begun = place
        own = order[begun : place + 1]
        assert told == pytest.approx(bound(x, y, own), abs=1e-12)
        assert told <= information(x[:, own], y) + 1e-12
    assert begun != 1  # several were in one bound


def test_each_taken_has_the_largest_bound_of_all_that_are_left(drawn):
    x, y = drawn
    order, _, reached = order_by_bound(x, y)
    for place in range(2):  # both within the first bound
        others = [c for c in range(5) if c not in order[:place]]
        each = [bound(x, y, [*order[:place], c]) for c in others]
        assert reached[place] == pytest.approx(max(each), abs=1e-12)


def test_bound_is_the_information_where_features_depend_on_the_label_alone():
    """Three bits, each of which says the label with 3 chances in 4: every case as often."""
    rows = []
    for label, wrong in itertools.product((0, 1), itertools.product((0, 1), repeat=3)):
        rows += [(*(label ^ w for w in wrong), label)] * 3 ** (3 - sum(wrong))
    table = np.array(rows)
    order, _, reached = order_by_bound(table[:, :3], table[:, 3])
    truth = [information(table[:, order[:k]], table[:, 3]) for k in (1, 2, 3)]
    assert truth[0] == pytest.approx(math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert reached == pytest.approx(truth, abs=1e-12)


def test_a_feature_that_tells_little_alone_is_taken_for_what_it_tells_with_another():
    """The label is a xor b, whose cases have 3, 1, 2 and 2 rows of 8; c is a poorer sight of a."""
    cases = [(0, 0)] * 3 + [(0, 1)] + [(1, 0)] * 2 + [(1, 1)] * 2
    rows = [(a, b, a ^ (i == 0)) for a, b in cases for i in range(4)]
    a, b, c = np.array(rows).T
    y = a ^ b
    order, alone, reached = order_by_bound(np.stack([c, b, a], 1), y)
    assert alone[1] < alone[0] < alone[2]  # b, c, a
    assert order[:2] == [2, 1]
    assert reached[1] == pytest.approx(-(5 / 8) * math.log(5 / 8) - (3 / 8) * math.log(3 / 8))


@pytest.mark.parametrize("copies", [1, 2])
def test_a_copy_never_raises_the_bound(copies):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    x = np.where(rng.random((200, 2)) < 0.8, y[:, None], 1 - y[:, None])
    order, _, _ = order_by_bound(np.column_stack([x] + [x[:, :1]] * copies), y)
    assert set(order[:2]) in ({0, 1}, {1, 2}, {1, 3})


def test_numbers_are_cut_into_cells_of_equally_many_rows():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 3))
    y = (np.abs(x[:, 1]) > 0.7).astype(float)  # nothing for a line to see
    taken = take_by_bound(x, np.stack([1 - y, y], 1), 1)
    assert taken.kept == [1]
    assert TERCSelector(1, order="vmi").fit(x, y).get_support(indices=True).tolist() == [1]


def test_a_rare_value_counts_as_one_of_its_own():
    y = np.r_[np.zeros(190), np.ones(10)]
    x = np.stack([np.arange(200) % 7, 1 - y], 1)  # zero in a twentieth of the rows
    assert take_by_bound(x, y[:, None], 1).kept == [1]


def test_too_many_cells_of_targets_are_refused():
    y = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.raises(EstimationError, match=r"60 rows lie in \d+ cells of 4 targets"):
        take_by_bound(y, y, 1)
