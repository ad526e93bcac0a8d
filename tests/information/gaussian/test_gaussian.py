"""The closed form against refits, closed forms of normals, and its own other form."""

import contextlib

import numpy as np
import pytest
import torch
from oracles import (
    RefitTwin,
    all_states,
    bivariate_normal_nats,
    discrete_nats,
    normal_nats,
    prepare_rows,
    rows_of_pair,
    total_correlation,
)

from mipp.errors import SingularCovarianceError
from mipp.information import gaussian, moments
from mipp.information.gaussian.blocks import DOUBT
from mipp.information.moments import Moments

SETTINGS = {"ridge": 1e-2, "resolution": 0.1}
TINY = {"ridge": 1e-13, "resolution": 1e-13}
ALL = torch.arange(4)


def prepare_form(form, x, y, **settings):
    if form == "primal":
        return prepare_rows(x, y, **settings)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    return gaussian.prepare_dual(x, y, x.shape[1], **settings)


def population(covariance, split):
    """Moments of a normal population, exactly: one row stands for all of them."""
    s = torch.as_tensor(covariance, dtype=torch.float64)
    zeros = torch.zeros(len(s), dtype=torch.float64)
    parts = s[:split, :split], s[:split, split:], s.diagonal()[split:]
    return Moments(1, zeros[:split], zeros[split:], *(part.clone() for part in parts))


@pytest.fixture(params=["primal", "dual"])
def form(request):
    return request.param


@pytest.mark.parametrize("block", [1, 3])
def test_losses_match_refit_after_every_drop(form, block, seed):
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=80, channels=7, block=block, targets=4)
    twin, kept = RefitTwin(x, y, **SETTINGS), set(range(7))
    elimination = prepare_form(form, x, y, **SETTINGS).eliminate(ALL)
    for channel in map(int, rng.permutation(7)):
        found = elimination.losses()
        for c in kept:
            assert float(found[c]) == pytest.approx(twin.loss(kept, c), rel=1e-10)
            assert elimination.loss(c) == pytest.approx(twin.loss(kept, c), rel=1e-10)
        elimination.drop(channel)
        kept.remove(channel)


@pytest.mark.parametrize("block", [1, 3])
def test_rounds_of_drops_match_refits(form, block, seed):
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=120, channels=12, block=block, targets=4)
    twin, kept = RefitTwin(x, y, **SETTINGS), set(range(12))
    elimination = prepare_form(form, x, y, **SETTINGS).eliminate(ALL)
    while len(kept) > 2:
        found = elimination.losses()
        for c in kept:
            assert float(found[c]) == pytest.approx(twin.loss(kept, c), rel=1e-9)
        asked = [int(c) for c in rng.permutation(sorted(kept))[: rng.integers(1, 5)]]
        elimination.consider(asked)
        for c in asked:
            assert elimination.loss(c) == pytest.approx(twin.loss(kept, c), rel=1e-9)
            if rng.random() < 0.6:
                elimination.drop(c)
                kept.remove(c)
        again = asked[0]  # one that a later drop of the round has changed, unless it went itself
        if again in kept:
            assert elimination.loss(again) == pytest.approx(twin.loss(kept, again), rel=1e-9)


@pytest.mark.parametrize("block", [1, 3])
def test_single_and_joint_information_match_refit(form, block, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=80, channels=5, block=block, targets=4)
    twin = RefitTwin(x, y, **SETTINGS)
    state = prepare_form(form, x, y, **SETTINGS)
    singles = [twin.information([c]) for c in range(5)]
    np.testing.assert_allclose(state.single(ALL), singles, rtol=1e-10)
    assert state.joint(ALL) == pytest.approx(twin.information(range(5)), rel=1e-10)


def test_dual_equals_primal_with_fewer_rows_than_features(seed):
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=12, channels=6, block=3, targets=4)
    primal, dual = (prepare_form(form, x, y, **SETTINGS) for form in ("primal", "dual"))
    np.testing.assert_allclose(dual.single(ALL), primal.single(ALL), rtol=1e-10)
    assert dual.joint(ALL) == pytest.approx(primal.joint(ALL), rel=1e-10)
    slow, fast = primal.eliminate(ALL), dual.eliminate(ALL)
    for dropped, channel in enumerate(map(int, rng.permutation(6))):
        assert fast.loss(channel) == pytest.approx(slow.loss(channel), rel=1e-8), dropped
        slow.drop(channel)
        fast.drop(channel)


def test_order_given_or_not_gives_the_same_losses(seed):
    rng = np.random.default_rng(seed)
    state = prepare_rows(*rows_of_pair(rng, n=90, channels=8, block=2, targets=4), **SETTINGS)
    order = [int(c) for c in rng.permutation(8)]
    known, unknown = state.eliminate_in_order(ALL, order), state.eliminate(ALL)
    for visit, channel in enumerate(order):
        assert known.loss(channel) == pytest.approx(unknown.loss(channel), rel=1e-10)
        if visit % 3:
            unknown.drop(channel)
        (known.drop if visit % 3 else known.settle)(channel)


def test_losses_match_refit_after_hundreds_of_features_went(seed):
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=900, channels=70, block=9, targets=4)
    twin, left = RefitTwin(x, y, **SETTINGS), set(range(70))
    state, order = prepare_rows(x, y, **SETTINGS), [int(c) for c in rng.permutation(70)]
    known, unknown = state.eliminate_in_order(ALL, order), state.eliminate(ALL)
    for visit, channel in enumerate(order):
        if visit % 20 == 19:
            loss = twin.loss(left, channel)
            assert known.loss(channel) == pytest.approx(loss, rel=1e-9)
            assert float(unknown.losses()[channel]) == pytest.approx(loss, rel=1e-9)
        if visit % 5:
            unknown.drop(channel)
        (known.drop if visit % 5 else known.settle)(channel)
        left -= {channel} if visit % 5 else set()


def test_restricted_targets_match_a_pair_of_those_targets(form, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=90, channels=5, block=2, targets=4)
    whole = prepare_form(form, x, y, **SETTINGS)
    part = prepare_form(form, x, y[:, [0, 2]], **SETTINGS)
    few, both = torch.tensor([0, 2]), torch.arange(2)
    np.testing.assert_allclose(whole.single(few), part.single(both), rtol=1e-12)
    assert whole.joint(few) == pytest.approx(part.joint(both), rel=1e-12)
    np.testing.assert_allclose(
        whole.eliminate(few).losses(), part.eliminate(both).losses(), rtol=1e-12
    )


def test_losses_add_up_to_the_joint_information(form, seed):
    rng = np.random.default_rng(seed)
    state = prepare_form(form, *rows_of_pair(rng, n=90, channels=6, block=2, targets=4), **SETTINGS)
    elimination, total = state.eliminate(ALL), 0.0
    for channel in map(int, rng.permutation(6)):
        total += elimination.loss(channel)
        elimination.drop(channel)
    assert total == pytest.approx(state.joint(ALL), rel=1e-10)


@pytest.mark.parametrize(("rho", "nats"), [(0.0, 0.0), (0.5, 0.1438), (-0.9, 0.8304)])
def test_gaussian_information_matches_closed_form(rho, nats):
    state = gaussian.prepare(population([[1, rho], [rho, 1]], 1), 1, **TINY)
    assert state.joint(torch.arange(1)) == pytest.approx(bivariate_normal_nats(rho), abs=1e-10)
    assert float(state.single(torch.arange(1))) == pytest.approx(nats, abs=1e-4)


@pytest.mark.parametrize("tau", [0.01, 1.0])
def test_resolution_bounds_the_information_of_a_copy(tau):
    state = gaussian.prepare(population([[1, 1], [1, 1]], 1), 1, ridge=1e-13, resolution=tau)
    expected = 0.5 * np.log((1 + tau) / tau)
    assert state.joint(torch.arange(1)) == pytest.approx(expected, abs=1e-10)


def multivariate(rng, *, shared):
    """Covariance of 6 features and 3 targets that are independent given the features.

    Each target reads two features of its own, or (`shared`) all six. The features of different
    targets are independent, so only in the first case are the targets independent.
    """
    features = np.kron(np.eye(3), [[1.0, 0.6], [0.6, 1.5]])
    weights = rng.normal(size=(6, 3)) * (1 if shared else np.kron(np.eye(3), np.ones((2, 1))))
    cross = features @ weights
    return np.block([[features, cross], [cross.T, weights.T @ cross + np.diag([0.5, 1.0, 2.0])]])


def test_information_matches_multivariate_normal_of_independent_targets(seed):
    # mipp adds up its targets one by one, which is I(X; Y) only where they share nothing
    covariance = multivariate(np.random.default_rng(seed), shared=False)
    state = gaussian.prepare(population(covariance, 6), 6, **TINY)
    assert state.joint(torch.arange(3)) == pytest.approx(normal_nats(covariance, 6), rel=1e-9)


def test_dependent_targets_count_what_they_share_once_each(seed):
    covariance = multivariate(np.random.default_rng(seed), shared=True)
    state = gaussian.prepare(population(covariance, 6), 6, **TINY)
    expected = normal_nats(covariance, 6) + total_correlation(covariance[6:, 6:])
    assert state.joint(torch.arange(3)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("size", "nats"), [(2, 0.2939), (3, 0.4133), (5, 0.5928), (25, 1.2922)])
def test_joint_information_matches_published_normals(size, nats):
    # "multinormal-dense" of the bmi benchmark: every two of the variables correlate by 0.5
    covariance = np.full((2 * size, 2 * size), 0.5) + 0.5 * np.eye(2 * size)
    state = gaussian.prepare(population(covariance, size), size, **TINY)
    xx, xy, yy = (covariance[:size, :size], covariance[:size, size:], covariance[size:, size:])
    given_x = yy - xy.T @ np.linalg.solve(xx, xy)
    shared = total_correlation(yy) - total_correlation(given_x)
    assert state.joint(torch.arange(size)) - shared == pytest.approx(nats, abs=1e-4)


def test_linear_estimator_cannot_see_that_three_bits_are_equal():
    bits = all_states(3)
    equal = (bits.min(1) == bits.max(1)).astype(float)[:, None]
    assert discrete_nats(bits, equal) == pytest.approx(0.5623, abs=1e-4)
    state = prepare_rows(bits, equal, **TINY)
    assert state.joint(torch.arange(1)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("ridge", [1e-5, 1e-6])
def test_duplicated_column_adds_nothing_until_its_copy_goes(form, ridge, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=200, channels=4, block=1, targets=4)
    x = np.concatenate([x, x[:, :1]], 1)  # channel 4 copies channel 0
    state = prepare_form(form, x, y, ridge=ridge, resolution=0.1)
    elimination = state.eliminate(ALL)
    assert elimination.loss(0) == pytest.approx(0, abs=1e-4)
    elimination.drop(4)
    alone = RefitTwin(x[:, :4], y, ridge=ridge, resolution=0.1).loss(range(4), 0)
    # the dual form cancels twice: its error goes with 1 / ridge^2, up to what DOUBT lets through
    bound = 1 / DOUBT if form == "dual" and ridge < 1e-5 else 1e-4
    assert elimination.loss(0) == pytest.approx(alone, rel=bound)


def test_dead_channel_has_no_information(form, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=60, channels=4, block=2, targets=4)
    x[:, 2] = 3.25
    state = prepare_form(form, x, y, **SETTINGS)
    assert float(state.single(ALL)[2]) == 0
    assert state.eliminate(ALL).loss(2) == 0


def test_layer_of_dead_channels_has_no_information(form):
    y = np.random.default_rng(0).normal(size=(30, 4))
    state = prepare_form(form, np.ones((30, 3, 2)), y, **SETTINGS)
    assert state.joint(ALL) == pytest.approx(0, abs=1e-14)
    assert state.eliminate(ALL).losses().tolist() == [0, 0, 0]


def test_constant_target_has_no_information(form, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=60, channels=4, block=2, targets=4)
    y[:, 1] = -2.0
    state = prepare_form(form, x, y, **SETTINGS)
    constant = torch.tensor([1])
    assert state.joint(constant) == 0
    assert state.single(constant).tolist() == [0] * 4
    assert state.eliminate(constant).losses().tolist() == [0] * 4


def test_no_targets_hold_no_information(form):
    x, y = rows_of_pair(np.random.default_rng(0), n=60, channels=4, block=2, targets=4)
    state, none = prepare_form(form, x, y, **SETTINGS), torch.arange(0)
    assert state.joint(none) == 0
    assert state.single(none).tolist() == [0] * 4
    assert state.eliminate(none).loss(1) == 0


def test_singular_covariance_is_refused(form):
    x = np.zeros((20, 3, 1))
    y = np.random.default_rng(0).normal(size=(20, 4))
    with pytest.raises(SingularCovarianceError, match=r"raise Gaussian\.ridge"):
        prepare_form(form, x, y, ridge=0.0, resolution=1.0)


@pytest.mark.parametrize("rows", [2, 3, 30])
@pytest.mark.parametrize("ridge", [1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 1e-17])
def test_small_ridge_is_accurate_or_refused(form, ridge, rows):
    rng = np.random.default_rng(0)
    x, y = rows_of_pair(rng, n=rows, channels=6, block=2, targets=4)
    x = np.tile(x, (1, 4, 1))  # every channel four times, and more features than rows
    total = 0.0
    with contextlib.suppress(SingularCovarianceError):
        state = prepare_form(form, x, y, ridge=ridge, resolution=1.0)
        elimination = state.eliminate(ALL)
        for channel in map(int, rng.permutation(24)):
            total += elimination.loss(channel)
            elimination.drop(channel)
        within = 1e-2 if ridge == 1e-12 else 1e-3  # 2e-3 measured, of two rows
        assert total == pytest.approx(state.joint(ALL), rel=within)


@pytest.mark.parametrize("factor", [1e2, 1e4, 1e6])
def test_few_rows_and_one_large_feature_match_refits(factor, seed):
    """Its precision is small and, of few rows, a difference of numbers near one."""
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=12, channels=60, block=2, targets=4)
    x[:, 3, 0] *= factor
    settings = {"ridge": 1e-5, "resolution": 0.1}
    state, twin = prepare_form("dual", x, y, **settings), RefitTwin(x, y, **settings)
    elimination, kept = state.eliminate(ALL), set(range(60))
    for channel in (
        5,
        3,
        *map(int, rng.permutation([c for c in range(60) if c not in (3, 5)])[:20]),
    ):
        assert elimination.loss(channel) == pytest.approx(twin.loss(kept, channel), rel=1e-4)
        elimination.drop(channel)
        kept.remove(channel)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_few_rows_in_any_unit_match_refits_in_every_round(scale, seed):
    """What has been dropped counts no more, whatever the scale of the precision matrix."""
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=12, channels=60, block=1, targets=4)
    x *= scale
    settings = {"ridge": 1e-4, "resolution": 0.1}
    state, twin = prepare_form("dual", x, y, **settings), RefitTwin(x, y, **settings)
    elimination, kept = state.eliminate(ALL), set(range(60))
    for dropped in rng.permutation(60)[:20].reshape(4, 5).tolist():
        for channel in dropped:
            elimination.drop(channel)
            kept.remove(channel)
        found = elimination.losses()
        for channel in sorted(kept)[::7]:
            assert float(found[channel]) == pytest.approx(twin.loss(kept, channel), rel=1e-6)


def test_state_survives_a_file_bit_by_bit(form, seed):
    x, y = rows_of_pair(np.random.default_rng(seed), n=30, channels=4, block=2, targets=4)
    state = prepare_form(form, x, y, **SETTINGS)
    read = gaussian.from_tensors(state.tensors())
    for name, value in vars(state).items():
        other = getattr(read, name)
        assert torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value


def test_prepare_leaves_the_moments_as_they_were():
    x, y = rows_of_pair(np.random.default_rng(0), n=30, channels=4, block=2, targets=4)
    sums = moments.of_rows(torch.from_numpy(x), torch.from_numpy(y))
    before = sums.xx.clone()
    state = gaussian.prepare(sums, 4, **SETTINGS)
    assert torch.equal(sums.xx, before)
    spared = gaussian.prepare(sums, 4, overwrite=True, **SETTINGS)
    assert torch.equal(spared.precision, state.precision)
    assert spared.precision.data_ptr() == sums.xx.data_ptr()


@pytest.mark.parametrize("power", [-60, -45, 0, 60])
@pytest.mark.parametrize("block", [1, 2])
def test_walks_in_any_unit_lose_the_same(form, block, power, seed):
    """Activations of an untrained network may all be of the size of 1e-14."""
    rows = {"n": 100 if form == "dual" else 700, "channels": 320, "block": block, "targets": 7}
    x, y = rows_of_pair(np.random.default_rng(seed), **rows)
    state = prepare_form(form, x * 2.0**power, y, **SETTINGS)
    plain = prepare_form(form, x, y, **SETTINGS)
    one, other = (s.eliminate(torch.arange(7)) for s in (state, plain))
    left = list(range(320))
    while len(left) > 160:
        losses, wanted = one.losses(), other.losses()
        np.testing.assert_allclose(losses[left], wanted[left], rtol=1e-6, atol=1e-12)
        least = sorted(left, key=lambda channel: float(wanted[channel]))[: len(left) // 16]
        for elimination in (one, other):
            elimination.consider(least)
            for channel in least:
                elimination.drop(channel)
        left = [channel for channel in left if channel not in least]
