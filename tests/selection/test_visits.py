"""TERC's two walks: what must survive, what must go, and in which order."""

import numpy as np
import pytest
import torch
from oracles import (
    RefitTwin,
    best_first_twin,
    decide,
    rows_of_pair,
    visit_once_twin,
)

from mipp.selection.rules import Consumer, Threshold
from mipp.selection.visits import best_first, visit_once, visiting_order

TWINS = {visit_once: visit_once_twin, best_first: best_first_twin}
SETTINGS = {"ridge": 1e-6, "resolution": 0.1}


@pytest.fixture(params=list(TWINS), ids=lambda walk: walk.__name__)
def walk(request):
    return request.param


class FixedLosses:
    """An elimination in which a channel adds the same whatever has gone."""

    def __init__(self, losses):
        self._losses = torch.tensor(losses, dtype=torch.float64)
        self.dropped = []

    def loss(self, channel):
        return float(self._losses[channel])

    def losses(self):
        return self._losses

    def consider(self, channels):
        self.considered = channels

    def drop(self, channel):
        self.dropped.append(channel)

    def settle(self, channel):
        assert channel not in self.dropped


class RisingLosses(FixedLosses):
    """Some channels add more once the first one is gone."""

    def __init__(self, losses, later):
        super().__init__(losses)
        self._later = later
        self.asked = []

    def consider(self, channels):
        self.asked.append(channels)

    def drop(self, channel):
        super().drop(channel)
        for late, loss in self._later.items():
            self._losses[late] = loss


def kept(verdicts):
    return sorted(verdict.channel for verdict in verdicts if verdict.kept)


def independent_columns(rng, n, channels):
    """Columns (n, channels, 1) and one noisy target for each of them."""
    x = rng.normal(size=(n, channels))
    return x[:, :, None], x + 0.3 * rng.normal(size=x.shape)


def test_exactly_one_of_two_copies_survives(walk, seed):
    rng = np.random.default_rng(seed)
    x, y = independent_columns(rng, 300, 4)
    shuffled = rng.permutation(8)
    copies = np.tile(np.arange(4), 2)[shuffled]
    survivors = kept(decide(walk, x[:, copies], y, 0.01, **SETTINGS))
    assert sorted(copies[survivors]) == [0, 1, 2, 3]


def test_one_of_a_sum_and_its_parts_goes(walk, seed):
    rng = np.random.default_rng(seed)
    x, y = independent_columns(rng, 300, 2)
    x = np.concatenate([x, x.sum(1, keepdims=True)], 1)[:, rng.permutation(3)]
    assert len(kept(decide(walk, x, y, 0.01, **SETTINGS))) == 2


def test_kept_set_loses_no_information_and_none_can_be_dropped(walk, seed):
    rng = np.random.default_rng(seed)
    x, y = independent_columns(rng, 300, 4)
    x = np.concatenate([x, x @ rng.normal(size=(1, 1)), x[:, :2] + x[:, 2:]], 1)
    survivors = kept(decide(walk, x, y, 0.01, **SETTINGS))
    twin = RefitTwin(x, y, **SETTINGS)
    everything = twin.information(range(twin.channels))
    assert twin.information(survivors) == pytest.approx(everything, abs=0.01)
    assert min(twin.loss(survivors, channel) for channel in survivors) >= 0.01


def test_permuting_columns_permutes_the_answer(walk, seed):
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=100, channels=8, block=1, targets=3)
    order = rng.permutation(8)
    plain, permuted = (decide(walk, columns, y, 0.2) for columns in (x, x[:, order]))
    assert 0 < len(kept(plain)) < 8
    assert sorted(order[kept(permuted)]) == kept(plain)


def test_null_column_goes(walk, seed):
    rng = np.random.default_rng(seed)
    x, y = independent_columns(rng, 2000, 4)
    x = np.concatenate([x[:, :2], rng.normal(size=(2000, 1, 1)), x[:, 2:]], 1)
    # noise earns about 1 / (2 n) nats a target
    assert kept(decide(walk, x, y, 20 / (2 * 2000), **SETTINGS)) == [0, 1, 3, 4]


def test_walks_agree_with_refits(walk, seed):
    rng = np.random.default_rng(seed)
    for threshold in (0.01, 0.1, 0.3, 1.0):
        x, y = rows_of_pair(rng, n=60, channels=7, block=2, targets=3, noise=2.0)
        twin = RefitTwin(x, y, ridge=1e-3, resolution=0.1)
        found = decide(walk, x, y, threshold, ridge=1e-3, resolution=0.1)
        assert kept(found) == TWINS[walk](twin, threshold, 0)


def test_best_first_in_rounds_agrees_with_refits(seed):
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=150, channels=50, block=1, targets=6, noise=2.0)
    twin = RefitTwin(x, y, ridge=1e-3, resolution=0.1)
    for threshold, floor in ((0.05, 0), (0.15, 0), (np.inf, 20)):
        found = decide(best_first, x, y, threshold, floor=floor, ridge=1e-3, resolution=0.1)
        assert kept(found) == best_first_twin(twin, threshold, floor)


def test_one_that_comes_to_add_more_than_others_waits_for_the_next_round():
    elimination = RisingLosses([0.1 * (c + 1) for c in range(32)], {1: 0.35})
    best_first([Consumer(elimination)], torch.zeros(32), Threshold(0.45), 1)
    assert elimination.dropped == [0, 2, 1, 3]
    assert elimination.asked[:4] == [[0, 1], [2], [1], [3]]


def test_verdicts_tell_what_refits_tell(seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=60, channels=7, block=2, targets=3)
    twin, present = RefitTwin(x, y, ridge=1e-3, resolution=0.1), set(range(7))
    for verdict in decide(visit_once, x, y, 0.3, ridge=1e-3, resolution=0.1):
        channel = verdict.channel
        assert verdict.single == pytest.approx(twin.information([channel]), rel=1e-9)
        assert verdict.conditional == pytest.approx(twin.loss(present, channel), rel=1e-9)
        assert verdict.kept == (verdict.conditional >= 0.3)
        present -= set() if verdict.kept else {channel}


def test_visit_once_goes_from_least_to_most_informative(seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=60, channels=9, block=1, targets=3)
    verdicts = decide(visit_once, x, y, 0.1)
    singles = [verdict.single for verdict in verdicts]
    assert singles == sorted(singles)
    assert [verdict.visit for verdict in verdicts] == list(range(9))


def test_equal_singles_are_visited_in_order_of_their_index():
    assert visiting_order(torch.tensor([2.0, 1.0, 2.0, 0.0, 1.0])) == [3, 1, 4, 0, 2]


def test_best_first_drops_the_lower_index_of_equals():
    elimination = FixedLosses([0.5, 0.2, 0.2, 0.1, 0.2])
    best_first([Consumer(elimination)], torch.zeros(5), Threshold(0.4), 1)
    assert elimination.dropped == [3, 1, 2, 4]


def test_what_adds_the_threshold_exactly_stays(walk):
    verdicts = walk([Consumer(FixedLosses([0.5, 0.25, 0.125]))], torch.zeros(3), Threshold(0.25), 0)
    assert kept(verdicts) == [0, 1]


def test_consumers_add_up(walk):
    eliminations = [FixedLosses([0.3, 0.1, 0.0]), FixedLosses([0.0, 0.3, 0.1])]
    verdicts = walk([Consumer(e) for e in eliminations], torch.zeros(3), Threshold(0.25), 0)
    assert {v.channel: v.conditional for v in verdicts} == pytest.approx({0: 0.3, 1: 0.4, 2: 0.1})
    assert eliminations[0].dropped == eliminations[1].dropped == [2]


def test_threshold_zero_drops_nothing(walk, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=60, channels=6, block=1, targets=3)
    assert kept(decide(walk, np.concatenate([x, x], 1), y, 0.0)) == list(range(12))


@pytest.mark.parametrize("floor", [0, 1, 3])
def test_floor_is_respected_and_reported(walk, floor, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=60, channels=6, block=1, targets=3)
    verdicts = decide(walk, x, y, np.inf, floor=floor)
    assert len(kept(verdicts)) == floor
    assert {v.why for v in verdicts if v.kept} == ({"floor"} if floor else set())
    assert {v.why for v in verdicts if not v.kept} == {"redundant"}


def test_floor_keeps_the_most_informative(seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=60, channels=6, block=1, targets=3)
    verdicts = decide(visit_once, x, y, np.inf, floor=2)
    assert [v.channel for v in verdicts if v.kept] == [v.channel for v in verdicts[-2:]]


def test_floor_is_not_reported_where_information_keeps_more(walk):
    verdicts = walk([Consumer(FixedLosses([1.0, 1.0, 0.0]))], torch.zeros(3), Threshold(0.5), 1)
    assert {v.channel: v.why for v in verdicts} == {
        0: "informative",
        1: "informative",
        2: "redundant",
    }


def test_every_channel_has_one_verdict(walk, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=60, channels=6, block=1, targets=3)
    assert sorted(v.channel for v in decide(walk, x, y, 0.3)) == list(range(6))
