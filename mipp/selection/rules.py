"""When a unit stays: stopping rules, each a judgement on what one channel adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import torch
from scipy.special import stdtr

from mipp.information.protocols import OrderedElimination, SampledElimination

Sure = Literal["keep", "drop"]

NOTHING = 1e-9  # nats: a cut through which less passes is closed
Kind = TypeVar("Kind", covariant=True)


class Consumer(NamedTuple, Generic[Kind]):
    """One layer that reads a group: its elimination, and how much each of its nats counts."""

    elimination: Kind
    weight: float = 1.0


class Judgement(NamedTuple):
    """What a channel adds in nats, what that is worth, and whether it stays.

    Where it was tested, also how sure we are that it adds anything, in percent.
    """

    nats: float
    worth: float  # compared between groups
    stays: bool
    confidence: float | None = None


class StoppingRule(Protocol):
    """Judges one channel, given all that are not yet dropped."""

    def judge(
        self, consumers: Sequence[Consumer[Any]], channel: int, lost: float = 0.0
    ) -> Judgement:
        """What a channel adds is the sum over its group's consumers.

        `lost` are the nats that went with the group's dropped channels.
        """


@dataclass(frozen=True)
class Threshold:
    """A channel stays when what it adds is worth the level.

    Parameters
    ----------
    level : nats per unit of price; with `passing`, the share of what passes per unit of price.
    price : of the channel.
    passing : nats that pass the narrowest cut through the channel's group, all its channels
        there; None where nats count as they are.

    Layers in series hand on no more than the narrowest of them does (the data-processing
    inequality), so that what a channel adds counts by how much still passes with it. Equal
    shares everywhere are the optimum of the product of what passes the cuts.
    """

    level: float
    price: float = 1.0
    passing: float | None = None

    def worth(self, nats: float, lost: float = 0.0) -> float:
        """What nats are worth after others were lost."""
        if self.passing is None:
            return nats / self.price
        return nats / (self.price * max(self.passing - lost, nats, NOTHING))

    def judge(
        self, consumers: Sequence[Consumer[OrderedElimination]], channel: int, lost: float = 0.0
    ) -> Judgement:
        nats = sum(weight * elimination.loss(channel) for elimination, weight in consumers)
        worth = self.worth(nats, lost)
        return Judgement(nats, worth, worth >= self.level)


@dataclass(frozen=True)
class Confidence:
    """A channel stays only if we are more than `percent` sure that it adds information.

    One-sided t test over the estimator's independent samples, which are nats beyond those of a
    column known to tell nothing.

    Parameters
    ----------
    margin : nats that do not count; 0 in the paper.
    sure : of what one must be sure: to `keep` a channel (the paper's rule), or to `drop` it,
        so that in doubt it stays.

    Source: arXiv:2411.00147v1 section 4.
    """

    percent: float
    margin: float = 0.0
    sure: Sure = "keep"

    def judge(
        self, consumers: Sequence[Consumer[SampledElimination]], channel: int, lost: float = 0.0
    ) -> Judgement:
        each = [(weight * e.samples(channel)).cpu() for e, weight in consumers]
        samples = torch.stack(each).sum(0)
        confidence = 100 * _probability_above(samples.double(), self.margin)
        bound = self.percent if self.sure == "keep" else 100 - self.percent
        nats = float(samples.mean())
        return Judgement(nats, nats, confidence > bound, confidence)


def _probability_above(samples: torch.Tensor, margin: float) -> float:
    """One-sided confidence that the mean of normal samples is above the margin."""
    excess = float(samples.mean()) - margin
    error = float(samples.std()) / len(samples) ** 0.5
    if error <= 1e-15 * max(1.0, abs(excess)):  # equal samples: nothing is left to chance
        return float(excess > 0)
    return float(stdtr(len(samples) - 1, excess / error))
