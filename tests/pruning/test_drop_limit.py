"""The confidence limit of a fall, held against likelihoods on a grid and by counting tables."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from mipp.pruning.drop_limit import drop_limit, least_inputs


def statistic(lost, gained, inputs, fall):
    """Standard errors under a fall, the share of those gained found on a grid of its likelihood."""
    shares = np.linspace(max(0.0, -fall), (1 - fall) / 2, 400_001)[1:-1]
    likelihood = (
        lost * np.log(shares + fall)
        + gained * np.log(shares)
        + (inputs - lost - gained) * np.log1p(-2 * shares - fall)
    )
    share = shares[likelihood.argmax()]
    return (inputs * fall - lost + gained) / math.sqrt(inputs * (2 * share + fall - fall**2))


@pytest.mark.parametrize(
    ("lost", "gained", "inputs"),
    [(12, 4, 1000), (3, 9, 200), (12, 2, 50), (40, 38, 144), (1, 0, 9)],
)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_at_the_limit_the_fall_seen_is_as_many_standard_errors_off_as_the_level_says(
    lost, gained, inputs, level
):
    limit = drop_limit(lost, gained, inputs, level)
    assert statistic(lost, gained, inputs, limit) == pytest.approx(
        NormalDist().inv_cdf(level), abs=1e-3
    )


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (5, 1), (2, 7)])
def test_limit_of_even_odds_is_the_fall_that_was_seen(lost, gained):
    assert drop_limit(lost, gained, 200, 0.5) == pytest.approx((lost - gained) / 200)


@pytest.mark.parametrize("inputs", [144, 1000, 50_000])
def test_no_change_of_few_inputs_leaves_room_for_a_fall(inputs):
    z = NormalDist().inv_cdf(0.95)
    assert drop_limit(0, 0, inputs, 0.95) == pytest.approx(z**2 / (inputs + z**2))


@pytest.mark.parametrize("fall", [0.002, 0.01, 0.3])
def test_least_inputs_are_those_that_show_a_fall_without_a_change(fall):
    least = least_inputs(fall, 0.95)
    assert drop_limit(0, 0, least, 0.95) <= fall < drop_limit(0, 0, least - 1, 0.95)


@pytest.mark.parametrize(("fall", "gained"), [(0.01, 0.0), (0.02, 0.02), (0.05, 0.01), (0.0, 0.03)])
def test_share_of_all_outcomes_whose_limit_is_too_low_is_that_of_the_level(fall, gained):
    """Every table of 300 inputs that is likely at all, by its multinomial probability."""
    inputs, level, low = 300, 0.95, 0.0
    shares = (fall + gained, gained, 1 - fall - 2 * gained)
    for lost in range(60):
        for regained in range(40 if gained else 1):
            counts = (lost, regained, inputs - lost - regained)
            chance = math.lgamma(inputs + 1) + sum(
                n * math.log(p) - math.lgamma(n + 1)
                for n, p in zip(counts, shares, strict=True)
                if p
            )
            if chance > -18 and drop_limit(lost, regained, inputs, level) < fall:
                low += math.exp(chance)
    assert low < 0.052
