"""When a unit stays: the t test against scipy's, and the rules against each other."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from mipp.selection.rules import Confidence, Consumer, Threshold
from mipp.selection.visits import visit_once

PERCENT = st.floats(50, 100, exclude_min=True, exclude_max=True)
SAMPLES = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=8)


class FixedSamples:
    """An elimination whose samples nothing changes, (channels, repeats)."""

    def __init__(self, samples):
        self._samples = torch.from_numpy(np.array(samples, float))

    def samples(self, channel):
        return self._samples[channel]

    def loss(self, channel):
        return float(self._samples[channel].mean())

    def drop(self, channel):
        pass

    settle = drop


def judge(rule, samples):
    return rule.judge([Consumer(FixedSamples([samples]))], 0)


def draw(seed, mean=0.0, n=5):
    return np.random.default_rng(seed).normal(mean, 1, n)


@pytest.mark.parametrize("mean", [-1.0, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("n", [2, 5, 12])
def test_confidence_is_that_of_scipys_one_sided_t_test(mean, n, seed):
    samples = draw(seed, mean, n)
    expected = 100 * (1 - ttest_1samp(samples, 0, alternative="greater").pvalue)
    found = judge(Confidence(95), samples)
    assert found.confidence == pytest.approx(expected, rel=1e-9)
    assert found.stays == (expected > 95)
    assert found.nats == pytest.approx(samples.mean())


@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_margin_is_what_the_mean_has_to_exceed(margin, seed):
    samples = draw(seed, 1.0)
    expected = 100 * (1 - ttest_1samp(samples, margin, alternative="greater").pvalue)
    found = judge(Confidence(95, margin), samples)
    assert found.confidence == pytest.approx(expected, rel=1e-9)
    assert found.confidence < judge(Confidence(95), samples).confidence
    assert found.nats == pytest.approx(samples.mean())  # as measured


def test_margin_alone_can_drop_a_channel():
    samples = [0.9, 1.0, 1.1, 1.0, 1.0]
    assert judge(Confidence(95, 0.5), samples).stays
    assert not judge(Confidence(95, 1.5), samples).stays


def test_sure_of_a_drop_keeps_what_is_in_doubt_and_sure_of_a_stay_does_not():
    doubt, noise, clear = (
        [-0.9, 1.1, 0.1, -0.4, 0.6],
        [-1.0, -1.2, -0.9, -1.1, -1.0],
        [1.0, 1.1, 0.9],
    )
    keep, drop = Confidence(95), Confidence(95, sure="drop")
    assert 5 < judge(keep, doubt).confidence < 95
    assert [judge(rule, doubt).stays for rule in (keep, drop)] == [False, True]
    assert [judge(rule, noise).stays for rule in (keep, drop)] == [False, False]
    assert [judge(rule, clear).stays for rule in (keep, drop)] == [True, True]


@given(samples=SAMPLES, percent=PERCENT)
def test_rules_are_opposites(samples, percent):
    keep, drop = Confidence(percent), Confidence(percent, sure="drop")
    mirrored = [-value for value in samples]
    stays, goes = judge(drop, mirrored).stays, not judge(drop, mirrored).stays
    if np.ptp(samples) > 1e-6:
        confidence = judge(keep, samples).confidence
        assert judge(drop, mirrored).confidence == pytest.approx(100 - confidence, abs=1e-9)
        if abs(confidence - percent) > 1e-6:
            assert goes == judge(keep, samples).stays
    assert stays or not judge(keep, mirrored).stays  # whoever is sure to keep keeps in doubt too


@given(samples=SAMPLES, percents=st.tuples(PERCENT, PERCENT), margin=st.floats(0, 1))
def test_asking_for_more_certainty_never_keeps_more(samples, percents, margin):
    low, high = sorted(percents)
    kept = [judge(Confidence(percent, margin), samples).stays for percent in (low, high)]
    assert kept != [False, True]
    kept = [judge(Confidence(p, margin, "drop"), samples).stays for p in (low, high)]
    assert kept != [True, False]  # nor drops more


@pytest.mark.parametrize(("value", "confidence"), [(0.5, 100), (0.0, 0), (-0.5, 0)])
def test_equal_samples_leave_nothing_to_chance(value, confidence):
    for sure in ("keep", "drop"):
        found = judge(Confidence(95, sure=sure), [value] * 5)
        assert found.confidence == confidence
        assert found.stays == (value > 0)


def test_equal_samples_are_compared_with_the_margin():
    assert judge(Confidence(95, 0.4), [0.5] * 5).stays
    assert not judge(Confidence(95, 0.5), [0.5] * 5).stays


def test_samples_of_consumers_are_added_before_they_are_judged(seed):
    first, second = draw(seed, 0.5), draw(seed + 1, 0.5)
    found = Confidence(95).judge([Consumer(FixedSamples([each])) for each in (first, second)], 0)
    expected = ttest_1samp(first + second, 0, alternative="greater").pvalue
    assert found.confidence == pytest.approx(100 * (1 - expected), rel=1e-9)
    assert found.nats == pytest.approx((first + second).mean())


def test_threshold_adds_consumers():
    consumers = [Consumer(FixedSamples(each)) for each in ([[0.25], [0.125]], [[0.5], [0.25]])]
    judged = [Threshold(0.5).judge(consumers, channel) for channel in (0, 1)]
    assert [j.nats for j in judged] == [0.75, 0.375]
    assert [j.stays for j in judged] == [True, False]


def test_what_adds_the_threshold_exactly_stays_and_the_margin_exactly_goes():
    assert judge(Threshold(0.5), [0.5]).stays
    assert not judge(Confidence(95, 0.5), [0.5, 0.5]).stays


def test_verdicts_record_the_confidence():
    samples = [[0.9, 1.0, 1.1], [-0.1, 0.1, 0.05]]
    verdicts = visit_once([Consumer(FixedSamples(samples))], torch.zeros(2), Confidence(95), 0)
    for verdict, values in zip(verdicts, samples, strict=True):
        expected = 100 * (1 - ttest_1samp(values, 0, alternative="greater").pvalue)
        assert verdict.confidence == pytest.approx(expected, rel=1e-6)
    assert [v.why for v in verdicts] == ["informative", "redundant"]


def test_verdicts_under_a_threshold_have_no_confidence():
    verdicts = visit_once(
        [Consumer(FixedSamples([[1.0], [0.0]]))], torch.zeros(2), Threshold(0.5), 0
    )
    assert [v.confidence for v in verdicts] == [None, None]
    assert [v.kept for v in verdicts] == [True, False]


def test_floor_outranks_the_confidence():
    verdicts = visit_once(
        [Consumer(FixedSamples([[-1.0, -2.0]] * 3))], torch.zeros(3), Confidence(95), 2
    )
    assert [v.why for v in verdicts] == ["redundant", "floor", "floor"]


def test_rules_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="percent"):
        Confidence(95).percent = 50


NATS = st.floats(1e-3, 1e3)


@given(nats=NATS, price=NATS, passing=NATS, share=st.floats(0, 0.99))
def test_worth_is_the_share_of_what_still_passes_per_price(nats, price, passing, share):
    nats, lost = min(nats, passing * (1 - share)), share * passing
    worth = Threshold(0.5, price, passing).worth(nats, lost)
    assert worth == pytest.approx(nats / (passing * (1 - share)) / price)
    assert Threshold(0.5, price).worth(nats, lost) == pytest.approx(nats / price)


@given(nats=st.floats(-1e3, 1e3), passing=st.floats(-1, 1e3), lost=st.floats(-1, 2e3))
def test_no_channel_is_more_than_all_that_passes(nats, passing, lost):
    assert Threshold(0.5, 1.0, passing).worth(nats, lost) <= 1


def test_last_channels_of_a_group_are_worth_more_as_a_share(seed):
    nats = np.sort(np.random.default_rng(seed).uniform(0.1, 1, 6))
    elimination = FixedSamples(nats[:, None])
    single = torch.from_numpy(nats)
    verdicts = visit_once([Consumer(elimination)], single, Threshold(0.4, 1.0, nats.sum()), 0)
    passing = nats.sum()
    for verdict, own in zip(verdicts, nats, strict=True):
        assert verdict.worth == pytest.approx(own / passing)
        assert verdict.kept == (own / passing >= 0.4)
        passing -= 0 if verdict.kept else own
    assert verdicts[-1].kept  # all that is left
    assert not any(v.kept for v in visit_once([Consumer(elimination)], single, Threshold(2.0), 0))
