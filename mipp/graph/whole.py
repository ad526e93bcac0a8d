"""What stays whole in a network, grouped by the kind of reason, with its share of the cost."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mipp.graph.channels import ChannelGraph
from mipp.graph.reasons import CATEGORIES, Category, Reason

Kind = Literal["macs", "params"]
SPACE = 11 * " "
NAMES = 3  # patterns of names in a line
LISTED = 2  # kinds of reasons in an error
ANSWER = 0.05  # share of the multiply-accumulates that a network's answer may cost
WORTH = 5e-4  # the share that is worth a line there


@dataclass(frozen=True)
class WholePart:
    """Layers that keep all of their outputs for one kind of reason.

    `shares` are theirs of the dense network's `macs` and `params`, 0 to 1. They may lose inputs:
    `least` are the shares that are left when every group keeps no more than it has to.
    """

    category: Category
    what: str
    advice: str
    reasons: Mapping[str, Reason]  # by layer, the one with most multiply-accumulates first
    shares: Mapping[Kind, float]
    least: Mapping[Kind, float]

    @property
    def layers(self) -> str:
        """Their names in a few words."""
        return folded(self.reasons)

    @property
    def example(self) -> str:
        """A layer, and why it stays whole."""
        layer, why = next(iter(self.reasons.items()))
        return f"{layer}: {why}"


def whole_parts(
    graph: ChannelGraph, floors: Mapping[str, int] | None = None
) -> tuple[WholePart, ...]:
    """What stays whole in a network by category, the largest share of multiply-accumulates first.

    Parameters
    ----------
    floors : units that each group keeps at least; 1 if none are given.
    """
    floors = floors if floors is not None else dict.fromkeys(graph.groups, 1)
    full, least = _costs(graph, graph.widths), _costs(graph, floors)
    total: Mapping[Kind, int] = {
        "macs": max(1, graph.dense_macs()),  # there may be none at all
        "params": max(1, graph.dense_params()),
    }
    parts = []
    for category, meaning in CATEGORIES.items():
        found = {m: why for m, why in graph.left_whole.items() if why.category == category}
        if found:
            ordered = sorted(found, key=lambda module: -full["macs"][module])
            shares, left = (
                {kind: sum(of[kind][m] for m in found) / total[kind] for kind in total}
                for of in (full, least)
            )
            reasons = {module: found[module] for module in ordered}
            advice = _advice(graph, category, left["macs"], full["macs"])
            advice = advice or meaning.advice
            parts.append(WholePart(category, meaning.what, advice, reasons, shares, left))
    return tuple(sorted(parts, key=lambda part: (-part.shares["macs"], -part.shares["params"])))


def whole_lines(
    graph: ChannelGraph, floors: Mapping[str, int] | None = None, kind: Kind = "macs"
) -> list[str]:
    """The parts of which most is left, in a few lines for an error; none where all can shrink.

    Parameters
    ----------
    floors : as for `whole_parts`.
    kind : of the shares.
    """
    parts = whole_parts(graph, floors)
    worth = [part for part in parts if part.least[kind] >= WORTH or not graph.groups]
    worth.sort(key=lambda part: -part.least[kind])
    lines = []
    for part in worth[:LISTED]:
        lines.append(f"{percent(part.least[kind]):>9}  {part.layers}: {part.what}")
        if part.category != "output":  # of which there is no more to say
            lines.append(f"{SPACE}{part.example}")
        lines.append(f"{SPACE}-> {part.advice}")
    return lines


def _costs(graph: ChannelGraph, kept: Mapping[str, int]) -> dict[Kind, dict[str, float]]:
    """Multiply-accumulates and parameters of each module with so many channels of each group."""
    macs: dict[str, float] = defaultdict(float)
    params: dict[str, float] = defaultdict(float)
    for cost in graph.costs:
        macs[cost.owner] += graph.macs_in(cost, kept)
        params[cost.owner] += graph.params_in(cost, kept)
    return {"macs": macs, "params": params}


def _advice(
    graph: ChannelGraph, category: Category, least: float, macs: Mapping[str, float]
) -> str | None:
    """What to do in this network, where more is known than of the category."""
    if category == "output" and least < ANSWER:
        return "nothing: that is its answer"
    part = largest_part(macs, graph.varying) if category == "calls" and graph.varying else None
    if part is None:
        return None
    return f"prune model.{part} by itself, which always runs, or pass calls=[...] with the others"


def largest_part(sizes: Mapping[str, float], without: Iterable[str]) -> str | None:
    """The largest module that holds others, but none of some; children before grandchildren.

    Parameters
    ----------
    sizes : of modules, by their names.

    >>> largest_part({"trunk.0": 4, "trunk.1": 4, "head": 9, "more.a": 5}, without=["more.b"])
    'trunk'
    """
    parents = {name[:i] for name in without for i, letter in enumerate(name) if letter == "."}
    for depth in range(1, 1 + max((name.count(".") for name in sizes), default=0)):
        parts: dict[str, float] = defaultdict(float)
        for name, size in sizes.items():
            part = ".".join(name.split(".")[:depth])
            if part not in (name, *parents, *without):
                parts[part] += size
        if parts:
            return max(parts, key=lambda part: parts[part])
    return None


def folded(names: Iterable[str]) -> str:
    """Names in a few words: those that differ in their numbers alone are one pattern.

    >>> folded(["layer1.0.conv", "layer1.1.conv", "head"])
    'layer*.*.conv (2), head'
    """
    counts: dict[str, list[str]] = {}
    for name in names:
        counts.setdefault(pattern_of(name), []).append(name)
    words = [
        same[0] if len(same) == 1 else f"{pattern} ({len(same)})"
        for pattern, same in counts.items()
    ]
    more = sum(len(same) for same in list(counts.values())[NAMES:])
    return ", ".join(words[:NAMES]) + (f" and {more} more" if more else "")


def pattern_of(name: str) -> str:
    """A name with `*` for its numbers.

    >>> pattern_of("layer1.10.conv2")
    'layer*.*.conv*'
    """
    return re.sub(r"\d+", "*", name)


def percent(share: float) -> str:
    """A share in percent; small ones with two digits.

    >>> percent(0.5), percent(0.00123)
    ('50.0 %', '0.12 %')
    """
    return f"{100 * share:.2g} %" if 0 < share < 0.01 else f"{100 * share:.1f} %"
