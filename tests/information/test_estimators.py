"""One contract for every estimator, on a pair with a channel and its copy."""

import numpy as np
import pytest
import torch
from oracles import rows_of_pair

from mipp.direct_settings import (
    NWJ,
    TUBA,
    Diffusion,
    Dime,
    Direct,
    InfoNCE,
    Interpolated,
    KernelDensity,
    Mine,
    Neighbours,
)
from mipp.information.estimators import ESTIMATORS, PairData
from mipp.information.gaussian.folds import FoldedInformation
from mipp.settings import Gaussian, Reconstruction

SEED = 3
REPEATS = 4
PERCEPTRONS = Reconstruction(
    repeats=REPEATS, rows=400, held_out=100, width=16, epochs=30, batch_size=64, retrain_epochs=12,
    retrain_lr=3e-3,
)  # fmt: skip
CRITIC = {"repeats": REPEATS, "width": 16, "steps": 60, "batch_size": 64}
SETTINGS = {
    Gaussian: Gaussian(repeats=REPEATS),
    Reconstruction: PERCEPTRONS,
    Neighbours: Neighbours(repeats=REPEATS),
    KernelDensity: KernelDensity(repeats=REPEATS),
    **{kind: kind(**CRITIC) for kind in (Mine, InfoNCE, NWJ, TUBA, Interpolated)},
    Diffusion: Diffusion(**CRITIC | {"steps": 150}),
    Dime: Dime(**CRITIC | {"steps": 150}),
}
HIDDEN = {"histogram"}  # counts no cells of so many columns: direct/test_measures.py
SLOW = {"mine", "infonce", "nwj", "tuba", "interpolated", "diffusion", "dime"}  # tens of trainings
CHANNELS, BLOCK, N = 4, 2, 600
COPY = (1, 3)  # these channels are the same
ORDER = [2, 0, 3, 1]
ALL = torch.arange(3)


def small_pair(seed):
    """A pair whose rows come in three chunks."""
    rng = np.random.default_rng(seed)
    x, y = rows_of_pair(rng, n=N, channels=3, block=BLOCK, targets=3)
    x = torch.from_numpy(np.concatenate([x, x[:, 1:2]], 1)).float()
    chunks = list(zip(x.split(250), torch.from_numpy(y).float().split(250), strict=True))
    return PairData("up--down", N, CHANNELS, BLOCK, lambda: chunks)


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in ESTIMATORS
        if name not in HIDDEN
    ]
)
def estimator(request):
    return ESTIMATORS[request.param]


@pytest.fixture(params=["answers", "samples"])
def question(request):
    return request.param


def answer(elimination, question, channel):
    """Nats that go with the channel decided next."""
    if question == "samples":
        return float(elimination.samples(channel).mean())
    return elimination.loss(channel)


def ask(estimator, question, seed, *, restored=False):
    data = small_pair(seed)
    settings = SETTINGS[estimator.settings]
    state = estimator.prepare(data, settings, SEED)
    if restored:
        state = estimator.restore({name: t.clone() for name, t in state.tensors().items()})
    return getattr(estimator, question)(state, data, settings, SEED)


def test_single_and_joint_information_are_finite_and_shaped(estimator, question, seed):
    information = ask(estimator, question, seed)
    single = information.single(ALL)
    assert single.shape == (CHANNELS,)
    assert torch.isfinite(single).all()
    assert isinstance(information.joint(ALL), float)
    assert information.joint(ALL) > float(single.max()) > 0


def test_restored_state_answers_the_same(estimator, question, seed):
    first, again = (ask(estimator, question, seed, restored=r) for r in (False, True))
    for targets in (ALL, torch.tensor([0, 2])):
        assert torch.equal(first.single(targets), again.single(targets))
        assert first.joint(targets) == again.joint(targets)
        one, other = (i.eliminate_in_order(targets, ORDER) for i in (first, again))
        for elimination in (one, other):
            elimination.drop(ORDER[0])
        assert answer(one, question, ORDER[1]) == answer(other, question, ORDER[1])


def test_answers_are_the_same_every_time(estimator, question, seed):
    first, again = (ask(estimator, question, seed) for _ in range(2))
    one, other = (i.eliminate_in_order(ALL, ORDER) for i in (first, again))
    for channel in ORDER:
        assert answer(one, question, channel) == answer(other, question, channel)
        for elimination in (one, other):
            elimination.settle(channel)


def test_losses_are_those_of_the_channels_one_by_one(estimator, seed):
    information = ask(estimator, "answers", seed)
    whole, single = (information.eliminate(ALL) for _ in range(2))
    present = list(range(CHANNELS))
    for gone in (None, 2):
        if gone is not None:
            present.remove(gone)
            for elimination in (whole, single):
                elimination.drop(gone)
        found = whole.losses()
        assert found.shape == (CHANNELS,)
        each = [single.loss(channel) for channel in present]
        assert found[present].tolist() == pytest.approx(each, rel=1e-5, abs=1e-6)


def test_order_given_or_not_gives_the_same_losses(estimator, seed):
    information = ask(estimator, "answers", seed)
    known, unknown = information.eliminate_in_order(ALL, ORDER), information.eliminate(ALL)
    for visit, channel in enumerate(ORDER):
        assert known.loss(channel) == pytest.approx(unknown.loss(channel), rel=1e-4, abs=1e-5)
        if visit == 0:
            unknown.drop(channel)
        (known.drop if visit == 0 else known.settle)(channel)


def test_copy_adds_little_beside_its_twin_and_much_without_it(estimator, question, seed):
    if issubclass(estimator.settings, Direct):
        pytest.skip("so many columns hide it from 600 rows; see direct/test_measures.py")
    stays, goes = COPY
    rest = [channel for channel in ORDER if channel not in COPY]
    information = ask(estimator, question, seed)
    first = information.eliminate_in_order(ALL, [stays, goes, *rest])
    then = information.eliminate_in_order(ALL, [goes, stays, *rest])
    beside = answer(first, question, stays)
    then.drop(goes)
    assert answer(then, question, stays) > max(10 * abs(beside), 0.2)


def test_channel_asked_about_again_adds_the_same(estimator, seed):
    elimination = ask(estimator, "answers", seed).eliminate(ALL)
    first = [elimination.loss(channel) for channel in range(CHANNELS)]
    assert [elimination.loss(channel) for channel in range(CHANNELS)] == first


def test_tests_of_significance_have_a_sample_per_repeat(estimator, seed):
    elimination = ask(estimator, "samples", seed).eliminate_in_order(ALL, ORDER)
    for channel in ORDER:
        samples = elimination.samples(channel)
        assert samples.shape == (REPEATS,)
        assert len(samples.unique()) == REPEATS
        elimination.settle(channel)


def test_closed_form_of_few_rows_is_that_of_many(seed):
    rng = np.random.default_rng(seed)
    x, y = (
        torch.from_numpy(side) for side in rows_of_pair(rng, n=60, channels=40, block=2, targets=3)
    )
    few, many = (
        PairData("up--down", rows, 40, 2, lambda: [(x[:35], y[:35]), (x[35:], y[35:])])
        for rows in (9, 80)  # as said of them: dual, and primal
    )
    dual, primal = (ESTIMATORS["gaussian"].prepare(data, Gaussian(), SEED) for data in (few, many))
    assert dual.precision is None
    assert primal.precision is not None
    torch.testing.assert_close(dual.single(ALL), primal.single(ALL))
    assert dual.joint(ALL) == pytest.approx(primal.joint(ALL))


def test_closed_form_tests_significance_on_folds(seed):
    assert isinstance(ask(ESTIMATORS["gaussian"], "samples", seed), FoldedInformation)
