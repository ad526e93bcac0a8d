"""Which numbers of its modules a forward pass lays channels out by, found by trying them.

`x.view(n, t, self.num_heads, self.size)` runs without a head once `num_heads` is one less; which
of a module's equal numbers it reads, nothing but a run can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, combinations

from torch import nn

from mipp.graph.channels import ChannelGroup, SizeAttribute
from mipp.graph.probe import Probe, fails_on_shapes
from mipp.inputs import Inputs

Groups = dict[str, ChannelGroup]
Key = tuple[tuple[type, str], ...]
MOST = 6  # attributes that are told apart


def guess_sizes(model: nn.Module, groups: Mapping[str, ChannelGroup], example: Inputs) -> Groups:
    """The groups with the numbers that change with them, the fewest with which a cut runs.

    Modules of one class are taken to read the same.
    """
    found = {name: _open(group) for name, group in groups.items()}
    choices = _with_choices(found)
    fault = fails_on_shapes(model, example) if choices else None
    if fault is None or fault(choices) is None:
        return found
    modules = dict(model.named_modules())
    known: dict[Key, tuple[str, ...]] = {}
    for name, group in choices.items():
        key = tuple((type(modules[c.module]), c.attribute) for c in group.choices)
        if key not in known:
            runs = (names for names in _subsets(group) if not fault({name: _chosen(group, names)}))
            known[key] = next(runs, ())
        found[name] = _chosen(group, known[key])
    return found


def prove_sizes(
    model: nn.Module, groups: Mapping[str, ChannelGroup], guessed: Groups, example: Inputs
) -> Groups:
    """What `guess_sizes` gave; where a cut on random weights shows a wrong number, with others.

    That no number changes may be wrong too: `x.reshape(n, self.heads, -1)` runs with any.
    """
    choices = _with_choices({name: _open(group) for name, group in groups.items()})
    tried = {name: guessed[name] for name in choices}
    return guessed | _proven(Probe(model, example), choices, tried) if tried else guessed


def _with_choices(groups: Groups) -> Groups:
    return {name: group for name, group in groups.items() if group.choices}


def _open(group: ChannelGroup) -> ChannelGroup:
    """A group whose choices do not hold what is known to change with it."""
    known = {(size.module, size.attribute) for size in group.sizes}
    choices = [c for c in group.choices if (c.module, c.attribute) not in known]
    found = dict.fromkeys(choice.attribute for choice in choices)
    names = sorted(found, key=lambda name: name.count("."))[:MOST]  # a module's own first
    return replace(group, choices=tuple(c for c in choices if c.attribute in names))


def _chosen(group: ChannelGroup, attributes: tuple[str, ...]) -> ChannelGroup:
    sizes: tuple[SizeAttribute, ...] = tuple(c for c in group.choices if c.attribute in attributes)
    return replace(group, sizes=group.sizes + sizes)


def _subsets(group: ChannelGroup, most: int = MOST) -> Iterator[tuple[str, ...]]:
    names = dict.fromkeys(choice.attribute for choice in group.choices)
    sizes = range(min(most, len(names)) + 1)
    return chain.from_iterable(combinations(names, size) for size in sizes)


def _proven(probe: Probe, choices: Groups, tried: Groups) -> Groups:
    """The groups as they are where a cut of them is right, else with other numbers."""
    found = {}
    for name in probe.apart(tried):
        group = choices[name]
        most = 1 if tried[name] == group else MOST  # it ran without any, so one says how many
        tries = (_chosen(group, names) for names in _subsets(group, most))
        found[name] = next((one for one in tries if probe.fault({name: one}) is None), group)
    return tried | found
