"""Transfer entropy redundancy criterion: which channels of one group can go (arXiv:2401.11512)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mipp.information.protocols import Elimination
from mipp.progress import track
from mipp.selection.rules import Consumer, StoppingRule, Threshold
from mipp.selection.verdict import Verdict, Why

Order = Literal["mi", "best-first"]
ROUND = 16  # a share of 1/16 is visited before all are ordered anew


def visiting_order(single: Tensor) -> list[int]:
    """Channels from the least to the most informative; ties in order of their index."""
    return [int(c) for c in torch.argsort(single, stable=True)]


def visit_once(
    consumers: Sequence[Consumer[Any]], single: Tensor, rule: StoppingRule, floor: int
) -> list[Verdict]:
    """Visit each channel once in MI order; drop it at once unless the rule says that it stays.

    Parameters
    ----------
    consumers : of the group, with eliminations in the `visiting_order`, sampled if the rule
        tests; a channel's information is their sum.
    single : information of each channel alone, nats, (channels,).
    rule : judges each channel, given those that are still there.
    floor : channels that stay whatever they add.

    Source: arXiv:2411.00147v1 section 4; the order is that of the authors' code.
    """
    verdicts = []
    remaining, lost = single.numel(), 0.0
    order = visiting_order(single)
    for visit, channel in enumerate(track(order, total=len(order), label="units")):
        conditional, worth, stays, confidence = rule.judge(consumers, channel, lost)
        why: Why = "informative"
        if not stays:
            why = "redundant" if remaining > floor else "floor"
        for elimination, _ in consumers:
            if why == "redundant":
                elimination.drop(channel)
            else:
                elimination.settle(channel)
        if why == "redundant":
            remaining, lost = remaining - 1, lost + conditional
        alone = float(single[channel])
        verdicts.append(Verdict(channel, visit, alone, conditional, worth, why, confidence))
    return verdicts


def best_first(
    consumers: Sequence[Consumer[Elimination]], single: Tensor, rule: Threshold, floor: int
) -> list[Verdict]:
    """Drop the channel that adds least, again and again, until all that stay are worth it.

    What all channels add is computed anew after a round, in which the least sixteenth of those
    left are visited. One is dropped if it still adds no more than every channel outside the round
    did at its start. Up to 31 channels are thus ordered anew after every drop; with more, one
    outside the round that has come to add less is only seen in the next.

    Ties go to the lower index. Parameters as for `visit_once`, eliminations in any order.
    """
    verdicts: list[Verdict] = []
    present = np.ones(single.numel(), bool)
    alone: list[float] = single.tolist()
    lost = 0.0

    def told(channel: int, nats: float, why: Why) -> Verdict:
        worth = rule.worth(nats, lost)
        return Verdict(channel, len(verdicts), alone[channel], nats, worth, why)

    while True:
        each = [(weight * e.losses()).cpu() for e, weight in consumers]
        losses = torch.stack(each).sum(0).numpy()
        left = np.flatnonzero(present)
        ranked: list[int] = left[np.argsort(losses[left], kind="stable")].tolist()
        if len(left) <= floor or rule.worth(losses[ranked[0]], lost) >= rule.level:
            break
        count = max(1, len(ranked) // ROUND)
        bar = losses[ranked[count]] if count < len(ranked) else math.inf
        for elimination, _ in consumers:
            elimination.consider(ranked[:count])
        for channel in ranked[: min(count, len(left) - floor)]:
            nats = sum(weight * e.loss(channel) for e, weight in consumers)
            if channel != ranked[0] and (nats > bar or rule.worth(nats, lost) >= rule.level):
                continue
            verdicts.append(told(channel, nats, "redundant"))
            for elimination, _ in consumers:
                elimination.drop(channel)
            present[channel] = False
            lost += nats
    for channel in left.tolist():
        verdict = told(channel, float(losses[channel]), "informative")
        stays = verdict.worth >= rule.level
        verdicts.append(verdict if stays else replace(verdict, why="floor"))
    return verdicts
