"""What one walk leaves to the next: sides of the channels that went, whatever their order."""

import numpy as np
import pytest
import torch
from oracles import RefitTwin, prepare_rows, rows_of_pair

from mipp.information import gaussian
from mipp.information.gaussian import drops as module
from mipp.information.gaussian.drops import Drops, features_of
from mipp.information.gaussian.precision import Whole

CHANNELS, BLOCK = 24, 2
SETTINGS = {"ridge": 1e-2, "resolution": 0.1}
FIRST = [3, 8, 5, 7, 20, 11, 0, 14]


def positive(seed):
    """A precision matrix (d, d) of the channels."""
    square = np.random.default_rng(seed).normal(size=(CHANNELS * BLOCK,) * 2)
    return torch.from_numpy(square @ square.T + np.eye(len(square)))


def features(channels):
    return features_of(torch.as_tensor(channels), BLOCK)


def places_of(drops):
    places = torch.zeros(CHANNELS, dtype=torch.int64)
    places[drops.held] = torch.arange(len(drops.held))
    return places


def taken(matrix, dropped, rows):
    """What these channels take from P at the rows, by a solution of their part of it."""
    at = features(dropped)
    return matrix[rows][:, at] @ torch.linalg.solve(matrix[at][:, at], matrix[at][:, rows])


def require_exact(drops, matrix, dropped):
    """S S' is what went, at the features that are there."""
    held = [c for c in drops.held.tolist() if c not in dropped]
    here = drops.columns()[features(places_of(drops)[held])]
    assert here.shape[1] == len(dropped) * BLOCK
    assert torch.allclose(here @ here.mT, taken(matrix, dropped, features(held)), rtol=1e-9)


def drop_anew(drops, matrix, channels, gone):
    """Append the sides of channels, by a factor of their part of what is left of P."""
    rows, at = features(drops.held), features(channels)
    left = matrix - drops_of(matrix, gone)
    factor = torch.linalg.cholesky(left[at][:, at])
    sides = torch.linalg.solve_triangular(factor, left[at][:, rows], upper=False).mT
    drops.append(channels, sides.contiguous())


def drops_of(matrix, gone):
    return taken(matrix, gone, torch.arange(len(matrix))) if gone else torch.zeros_like(matrix)


def walked(seed):
    """P, and what a first walk left that forgot the half of its drops on the way."""
    matrix = positive(seed)
    drops = Drops(Whole(matrix), CHANNELS)
    drop_anew(drops, matrix, FIRST[:4], [])
    drops.forget(torch.isin(drops.held, torch.tensor(FIRST[:4])))
    drop_anew(drops, matrix, FIRST[4:], FIRST[:4])
    drops.restart()
    return matrix, drops


@pytest.mark.parametrize(
    "rounds",
    [
        [[3, 8, 5], [7, 20, 11]],
        [[5, 3], [8, 20], [14, 7, 11, 0]],
        [[8], [7], [0], [3, 5, 11, 20], [14]],
        [[14, 0, 11, 20, 7, 5, 8, 3]],
    ],
    ids=["as they went", "some before others", "one far behind", "all the other way round"],
)
@pytest.mark.parametrize("forgets", [False, True])
def test_sides_of_another_order_take_what_these_channels_take(rounds, forgets, seed, monkeypatch):
    monkeypatch.setattr(module, "DEAR", 0)
    matrix, drops = walked(seed)
    gone = []
    for dropped in rounds:
        known = drops.recall(dropped, places_of(drops))
        assert sorted(known) == sorted(dropped)
        gone += dropped
        factor = drops.columns()[features(places_of(drops)[known]), -len(known) * BLOCK :]
        assert torch.allclose(factor, factor.tril())
        require_exact(drops, matrix, gone)
        if forgets:
            drops.forget(torch.isin(drops.held, torch.tensor(gone)))
            require_exact(drops, matrix, gone)


def test_what_nobody_dropped_is_not_known_and_ends_what_is(seed):
    matrix, drops = walked(seed)
    assert drops.recall([3, 8], places_of(drops))
    assert not drops.recall([5, 1], places_of(drops))
    drop_anew(drops, matrix, [5, 1], [3, 8])
    require_exact(drops, matrix, [3, 8, 5, 1])
    assert not drops.recall([7], places_of(drops))
    drops.restart()
    assert sorted(drops.recall([8, 3, 1, 5], places_of(drops))) == [1, 3, 5, 8]
    require_exact(drops, matrix, [8, 3, 1, 5])


def test_a_channel_far_behind_is_dropped_anew_where_a_rotation_costs_more(seed):
    matrix, drops = walked(seed)
    assert not drops.recall([14], places_of(drops))
    drop_anew(drops, matrix, [14], [])
    require_exact(drops, matrix, [14])


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("dear", [0, module.DEAR])
@pytest.mark.parametrize("block", [1, 3])
def test_walks_after_others_lose_what_refits_lose(form, block, dear, seed, monkeypatch):
    """Much the same goes in each walk, in rounds of other sizes, with other targets."""
    monkeypatch.setattr(module, "DEAR", dear)
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=30, channels=20, block=block, targets=5)
    if form == "primal":
        state = prepare_rows(x, y, **SETTINGS)
    else:
        rows = torch.from_numpy(x), torch.from_numpy(y)
        state = gaussian.prepare_dual(*rows, 20, **SETTINGS)
    warm, order = state.warm_started(), rng.permutation(20)[:14]
    for size, targets in ((3, range(5)), (4, (0, 2, 3)), (2, (0, 3)), (14, (1, 4))):
        twin = RefitTwin(x, y[:, targets], **SETTINGS)
        left, elimination = set(range(20)), warm.eliminate(torch.tensor(targets))
        order[3:9] = rng.permutation(order[3:9])
        for dropped in np.split(order, range(size, 14, size)):
            elimination.consider(dropped.tolist())
            for channel in dropped.tolist():
                expected = twin.loss(left, channel)
                assert elimination.loss(channel) == pytest.approx(expected, rel=1e-8)
                elimination.drop(channel)
                left.remove(channel)
            losses = elimination.losses()
            for channel in sorted(left)[::3]:
                assert float(losses[channel]) == pytest.approx(twin.loss(left, channel), rel=1e-8)


def test_a_walk_like_the_one_before_makes_no_new_sides(seed, monkeypatch):
    x, y = rows_of_pair(np.random.default_rng(seed), n=90, channels=20, block=2, targets=4)
    warm = prepare_rows(x, y, **SETTINGS).warm_started()

    def losses_of_a_walk(targets):
        elimination = warm.eliminate(torch.tensor(targets))
        for dropped in ([4, 2, 9], [11, 0], [7]):
            for channel in dropped:
                elimination.drop(channel)
            losses = elimination.losses()
        return losses

    losses_of_a_walk([0, 1, 2, 3])
    monkeypatch.delattr(Drops, "append")
    again, twin = losses_of_a_walk([1, 2]), RefitTwin(x, y[:, [1, 2]], **SETTINGS)
    left = set(range(20)) - {4, 2, 9, 11, 0, 7}
    for channel in sorted(left):
        assert float(again[channel]) == pytest.approx(twin.loss(left, channel), rel=1e-8)
