"""How many channels of each group stay whatever they add: floors, limits, modules left alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from mipp.errors import ConfigError, did_you_mean, option
from mipp.graph import ChannelGraph, ChannelGroup
from mipp.settings import Limits

Floors = Mapping[str, int]  # group -> channels that stay
ROUNDING = 1e-9


def floors_of(graph: ChannelGraph, limits: Limits) -> dict[str, int]:
    """Channels of each group that stay whatever they add.

    `min_channels` of every group, rounded up to `round_to`; all of a group with a module that is
    to be left alone; and what the limits forbid to drop.

    Raises
    ------
    ConfigError : a pattern fits no module of the network.
    """
    floors = {name: min(limits.least, width) for name, width in graph.widths.items()}
    pinned = [
        *_matching(graph, "ignore", limits.ignore, ChannelGroup.modules),
        *_matching(graph, "keep_outputs", limits.keep_outputs, _producers),
        *_matching(graph, "keep_inputs", limits.keep_inputs, _consumers),
    ]
    for name in pinned:
        floors[name] = graph.widths[name]
    for pattern, share in limits.limits.items():
        for name in _matching(graph, "limits", [pattern], _producers):
            stay = math.ceil(graph.widths[name] * (1 - share) - ROUNDING)
            floors[name] = max(floors[name], stay)
    return floors


def _producers(group: ChannelGroup) -> list[str]:
    return [group.name, *(member.module for member in group.producers)]


def _consumers(group: ChannelGroup) -> list[str]:
    return [member.module for member in group.consumers]


def _matching(
    graph: ChannelGraph,
    key: str,
    patterns: Iterable[str],
    modules: Callable[[ChannelGroup], list[str]],
) -> list[str]:
    """Names of the groups of which a module fits one of the patterns."""
    found = []
    known = {m for group in graph.groups.values() for m in (group.name, *group.modules())}
    known |= {cost.module for cost in graph.costs} | set(graph.left_whole)
    for pattern in patterns:
        if not any(fnmatchcase(module, pattern) for module in known):
            raise ConfigError(
                f"{option(key)}: pattern {pattern!r} fits no module of the network.\nExpected the "
                f"name of a module, or a pattern with * for any letters; "
                f"{did_you_mean(pattern, known)}."
            )
        found += [
            name
            for name, group in graph.groups.items()
            if any(fnmatchcase(module, pattern) for module in modules(group))
        ]
    return found
