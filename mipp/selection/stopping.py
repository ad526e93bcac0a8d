"""When a unit stays: stopping rules, each a judgement on what one channel adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from scipy.special import stdtr

from mipp.information.elimination import Elimination

Sure = Literal["keep", "drop"]


class Judgement(NamedTuple):
    """What a channel adds in nats, whether it stays, and how sure that it adds anything, %."""

    nats: float
    stays: bool
    confidence: float | None = None


class StoppingRule(Protocol):
    """Judges one channel, given all that are not yet dropped."""

    def judge(self, eliminations: Sequence[Elimination], channel: int) -> Judgement:
        """`eliminations` are those of the group's consumers; what a channel adds is their sum."""


@dataclass(frozen=True)
class Threshold:
    """A channel stays when it adds at least so many nats."""

    nats: float

    def judge(self, eliminations: Sequence[Elimination], channel: int) -> Judgement:
        nats = sum(elimination.loss(channel) for elimination in eliminations)
        return Judgement(nats, nats >= self.nats)


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

    def judge(self, eliminations: Sequence[Elimination], channel: int) -> Judgement:
        samples = torch.stack([e.samples(channel).cpu() for e in eliminations]).sum(0)
        confidence = 100 * _probability_above(samples.double(), self.margin)
        bound = self.percent if self.sure == "keep" else 100 - self.percent
        return Judgement(float(samples.mean()), confidence > bound, confidence)


def _probability_above(samples: torch.Tensor, margin: float) -> float:
    """One-sided confidence that the mean of normal samples is above the margin."""
    excess = float(samples.mean()) - margin
    error = float(samples.std()) / len(samples) ** 0.5
    if error <= 1e-15 * max(1.0, abs(excess)):  # equal samples: nothing is left to chance
        return float(excess > 0)
    return float(stdtr(len(samples) - 1, excess / error))
