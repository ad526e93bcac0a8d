"""Top-down selection over a whole network, from the outputs to the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from mipp.graph import ChannelGraph, LayerPair
from mipp.information.protocols import Information, PairInformation
from mipp.progress import track
from mipp.selection.cuts import Cuts
from mipp.selection.rules import Consumer, StoppingRule, Threshold
from mipp.selection.verdict import Verdict
from mipp.selection.visits import Order, best_first, visit_once, visiting_order


class Passing(NamedTuple):
    """Nats of a whole group with the targets that count, and of its narrowest cut."""

    group: float
    cut: float


RuleOf = Callable[[str, Passing], StoppingRule]


@dataclass(frozen=True)
class Course:
    """How a walk goes: its order, what stays of each group at least, what a map's nats count.

    A map of p positions counts p ** `position_weight` times the information of one position:
    its positions tell more than one of them does, and less than all of them apart, since they
    depend on each other.
    """

    order: Order
    floors: Mapping[str, int]
    position_weight: float = 0.0


@dataclass(frozen=True)
class Walk:
    """One pass over the network at one threshold."""

    verdicts: Mapping[str, Sequence[Verdict]]

    def kept(self) -> dict[str, list[int]]:
        """Kept channels per group, sorted."""
        return {
            group: sorted(v.channel for v in verdicts if v.kept)
            for group, verdicts in self.verdicts.items()
        }

    def counts(self) -> dict[str, int]:
        """Number of kept channels per group."""
        return {group: sum(v.kept for v in vs) for group, vs in self.verdicts.items()}


def walk_network(
    graph: ChannelGraph,
    information: Information,
    course: Course,
    rule_of: RuleOf,
    totals: Mapping[str, float],
) -> Walk:
    """Decide every group, latest consumer first, against the rows that are still kept.

    Rows of a consumer owned by a decided group are restricted to that group's kept channels;
    rows of an undecided group all count.

    Parameters
    ----------
    totals : `total_information`, what passes a group that is not yet decided.

    Source: arXiv:2411.00147v1 section 4, generalised from chains to coupled groups.
    """
    verdicts: dict[str, Sequence[Verdict]] = {}
    kept: dict[str, list[int]] = {}
    cuts = Cuts(graph.lives, totals)
    for group in track(graph.groups, total=len(graph.groups), label="choose"):
        pairs = graph.pairs_of(group)
        whole = group_information(pairs, information, course.position_weight, kept)
        rule = rule_of(group, Passing(whole, cuts.narrowest(group, whole)))
        decided = decide_group(group, pairs, information, course, rule, kept)
        verdicts[group] = decided
        kept[group] = sorted(v.channel for v in decided if v.kept)
        cuts.decide(group, whole - sum(v.conditional for v in decided if not v.kept))
    return Walk(verdicts)


def decide_group(
    group: str,
    pairs: Sequence[LayerPair],
    information: Information,
    course: Course,
    rule: StoppingRule,
    kept: Mapping[str, Sequence[int]],
) -> list[Verdict]:
    """What becomes of each channel of one group.

    Parameters
    ----------
    pairs : the group's pairs.
    kept : channels of the groups that are decided.
    """
    targets = [kept_targets(pair, kept) for pair in pairs]
    weights = [pair.positions**course.position_weight for pair in pairs]
    asked = [
        (information[pair.name], rows, weight)
        for pair, rows, weight in zip(pairs, targets, weights, strict=True)
    ]
    single = torch.stack([weight * i.single(rows).cpu() for i, rows, weight in asked]).sum(0)
    floor = course.floors.get(group, 1)
    if course.order == "mi":
        order = visiting_order(single)
        in_order = [Consumer(i.eliminate_in_order(rows, order), w) for i, rows, w in asked]
        return visit_once(in_order, single, rule, floor)
    assert isinstance(rule, Threshold), "a test of significance looks at each unit once"
    consumers = [
        Consumer(cast(PairInformation, i).eliminate(rows), weight) for i, rows, weight in asked
    ]
    return best_first(consumers, single, rule, floor)


def kept_targets(pair: LayerPair, kept: Mapping[str, Sequence[int]]) -> Tensor:
    """Target rows of a pair whose channel is kept, or not yet decided."""
    return torch.from_numpy(pair.rows_kept(kept))


def total_information(
    graph: ChannelGraph, information: Information, position_weight: float
) -> dict[str, float]:
    """Information of each whole group with its consumers' outputs, nats."""
    return {
        group: group_information(graph.pairs_of(group), information, position_weight, {})
        for group in graph.groups
    }


def group_information(
    pairs: Sequence[LayerPair],
    information: Information,
    position_weight: float,
    kept: Mapping[str, Sequence[int]],
) -> float:
    """Information of a whole group with those outputs of its consumers that are kept, nats."""
    nats = 0.0
    for pair in pairs:
        weight = pair.positions**position_weight
        nats += weight * information[pair.name].joint(kept_targets(pair, kept))
    return nats
