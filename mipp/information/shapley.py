"""Shapley values: what a channel adds to those before it, the mean over all orders of them.

With v(S) the information of a subset, this is SAGE (Covert, Lundberg and Lee 2020,
arXiv:2004.00668), whose v(S) is the loss that is saved by knowing S.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mipp.information.protocols import OrderedElimination
from mipp.progress import track

PRECISION = 0.025  # of the values' range, as in the authors' code
FEWEST, MOST = 16, 128  # orders, each of them both ways


class Asked(Protocol):
    """Information that can be asked about one channel after another."""

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> OrderedElimination:
        """A backward elimination that decides the channels in this order."""


class Shapley(NamedTuple):
    """Nats of each channel, (channels,): they add up to what all of them tell together."""

    values: Tensor
    errors: Tensor  # standard errors of the sampled orders
    orders: int


def gains(information: Asked, targets: Tensor, order: Sequence[int]) -> Tensor:
    """Nats that go with each channel as all are dropped in an order, (channels,)."""
    elimination = information.eliminate_in_order(targets, order)
    found = torch.zeros(len(order), dtype=torch.float64, device="cpu")
    for channel in order:
        found[channel] = elimination.loss(channel)
        elimination.drop(channel)
    return found


def shapley_values(
    gains_in: Callable[[Sequence[int]], Tensor],
    channels: int,
    generator: torch.Generator,
    most: int = MOST,
) -> Shapley:
    """Mean gains over orders drawn at random, each of them both ways, until they are sure enough.

    That is when no standard error is above `PRECISION` of the values' range, or after `most`
    orders; each costs twice as many questions as there are channels.

    Blind: copies share what one of them tells, so that the best k by these values may be k
    copies, or none of them: what goes together is not asked.

    Source: arXiv:2004.00668v2, section 3 and algorithm 1; both ways, as the first are the last
    then and errors smaller: Mitchell et al. 2022, arXiv:2104.12199. Departs: v(S) is the
    information of the best predictor from S instead of one network's loss with the others drawn
    at random; both are the same where that network is best.

    Example
    -------
    >>> def gains_in(order):  # the second tells 1 nat, and the first 2 more once it is known
    ...     return torch.tensor([0.0, 3.0] if order[0] == 0 else [2.0, 1.0])
    >>> found = shapley_values(gains_in, 2, torch.Generator().manual_seed(0))
    >>> found.values.tolist(), found.errors.tolist(), found.orders
    ([1.0, 2.0], [0.0, 0.0], 16)
    """
    total = torch.zeros(channels, dtype=torch.float64, device="cpu")
    squares = torch.zeros_like(total)
    for drawn in track(range(1, most + 1), total=most, label="orders, at most"):
        order = torch.randperm(channels, generator=generator, device="cpu").tolist()
        each = (gains_in(order).cpu().double() + gains_in(order[::-1]).cpu().double()) / 2
        total += each
        squares += each.square()
        mean = total / drawn
        variance = (squares / drawn - mean.square()).clamp_min(0) / max(drawn - 1, 1)
        errors = variance.sqrt()
        if drawn >= FEWEST and float(errors.max()) <= PRECISION * float(mean.max() - mean.min()):
            break
    return Shapley(mean, errors, drawn)
