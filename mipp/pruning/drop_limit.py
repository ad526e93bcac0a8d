"""Upper confidence limit of how far an accuracy falls, told by answers to the same inputs.

    1000 inputs: 12 that were right go wrong, 4 that were wrong come right
    the accuracy fell by 0.8 points, and with 95 % confidence by no more than 1.6

It is Tango's score limit for the difference of paired proportions, which inverts the test of
non-inferiority. That of Wald would take 144 inputs without a change for proof of no fall at all.
"""

from __future__ import annotations

import math
from statistics import NormalDist

HALVINGS = 50  # of the interval that the limit lies in


def drop_limit(lost: int, gained: int, inputs: int, level: float) -> float:
    """The share of all inputs by which the accuracy falls, at the most.

    Parameters
    ----------
    lost, gained : inputs whose answer was right and is wrong, and the reverse.
    inputs : all of them, at least 1.
    level : one-sided, 0.5 to 1; 0.5 gives the fall that was seen.

    Example
    -------
    >>> round(drop_limit(12, 4, 1000, 0.95), 4), round(drop_limit(0, 0, 144, 0.95), 4)
    (0.0156, 0.0184)

    Source: Tango, Statistics in Medicine 17 (1998) 891, eq. (13) and (16).
    """
    z = NormalDist().inv_cdf(level)
    low, high = (lost - gained) / inputs, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _score(lost, gained, inputs, middle) >= z:
            high = middle
        else:
            low = middle
    return high


def least_inputs(fall: float, level: float) -> float:
    """How many inputs show that the accuracy falls by no more than a share, if no answer changes.

    >>> least_inputs(0.01, 0.95)
    268
    """
    if not 0 < fall < 1:
        return 0 if fall else math.inf
    return math.ceil(NormalDist().inv_cdf(level) ** 2 * (1 - fall) / fall)


def _score(lost: int, gained: int, inputs: int, fall: float) -> float:
    """Tango's statistic: how far the fall that was seen lies below a fall, in standard errors."""
    linear = (2 * inputs - lost + gained) * fall - lost - gained
    root = math.sqrt(linear**2 + 8 * inputs * gained * fall * (1 - fall))
    regained = (root - linear) / (4 * inputs)  # the likeliest share of gained, with such a fall
    variance = inputs * (2 * regained + fall * (1 - fall))
    distance = inputs * fall - lost + gained
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)
