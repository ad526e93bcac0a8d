"""Builds the channel graph of a network: groups, pairs, costs, and a proof that it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from mipp.errors import ModelError
from mipp.evaluation import evaluating, forget
from mipp.graph.across import record_units
from mipp.graph.channels import ChannelGraph, ChannelGroup, LayerPair, Life, Member
from mipp.graph.costs import count_costs
from mipp.graph.grouping import components_of, read_groups
from mipp.graph.passes import Followed, follow_calls
from mipp.graph.probe import all_sound, find_unsound
from mipp.graph.products import costs_along_places, count_products
from mipp.graph.reasons import Reason
from mipp.graph.record import Record
from mipp.graph.sizes import guess_sizes, prove_sizes
from mipp.graph.smaller import smaller_example
from mipp.graph.trail import Trail, run_once
from mipp.graph.whole import whole_lines
from mipp.graph.widths import settle_widths
from mipp.inputs import Call, Inputs, call
from mipp.layers import Layer, layer_at


def build_graph(
    model: nn.Module, example: Inputs, calls: Sequence[Call] = (), others: Sequence[Inputs] = ()
) -> ChannelGraph:
    """Prunable channel groups of a network with their layer pairs and costs.

    Parameters and errors as for `follow_channels`.

    Raises
    ------
    ModelError : nothing in the model can be pruned.
    """
    graph = follow_channels(model, example, calls, others)
    require_prunable(model, graph)
    return graph


def follow_channels(
    model: nn.Module, example: Inputs, calls: Sequence[Call] = (), others: Sequence[Inputs] = ()
) -> ChannelGraph:
    """The graph of `build_graph`, also of a network in which nothing can be pruned.

    Parameters
    ----------
    model : any module that maps tensors to a tensor, or to tuples or dicts of them; left as found.
    example : one input, shape (1, ...), on the model's device; a tuple or mapping of such where
        forward takes several.
    calls, others : as for `follow_calls`.

    Raises
    ------
    ModelError : the model cannot be traced.
    """
    trail = run_once(model, example)
    followed = follow_calls(model, example, calls, others)
    record = _record(model, trail, example, followed)
    drafts, left_whole = _drafts(model, trail, record, followed)
    found = guess_sizes(model, drafts, example)
    small = smaller_example(model, example, trail, followed)
    if not all_sound(model, found, small, followed.passes):
        found = _settled(model, drafts, found, example)
        for name, reason in find_unsound(model, found, example, followed.passes).items():
            left_whole.update({member.module: reason for member in found.pop(name).producers})
    cut = {member.module for group in found.values() for member in group.producers}
    left_whole = {name: reason for name, reason in left_whole.items() if name not in cut}
    graph = _assemble(model, trail, record, found, left_whole)
    return replace(graph, unreached=followed.unreached, varying=followed.varying)


def require_prunable(model: nn.Module, graph: ChannelGraph) -> None:
    """Refuse a network without channel groups.

    Raises
    ------
    ModelError : says what stays whole, and what to do about it.
    """
    if not graph.groups:
        lines = whole_lines(graph) or ["there is no such layer"]
        raise ModelError(
            f"model {type(model).__name__} has no channels to prune.\nExpected at least one conv "
            "or linear layer that feeds another, got none that can lose channels. Its layers stay "
            "whole, with their share of its multiply-accumulates:\n" + "\n".join(lines)
        )


def find_groups(
    model: nn.Module, example: Inputs, calls: Sequence[Call] = ()
) -> dict[str, ChannelGroup]:
    """The groups of `build_graph`, and perhaps some that it found to be unsound; much faster.

    Raises
    ------
    ModelError : the model cannot be traced.
    """
    trail = run_once(model, example)
    followed = follow_calls(model, example, calls)
    record = _record(model, trail, example, followed)
    drafts, _ = _drafts(model, trail, record, followed)
    return _settled(model, drafts, guess_sizes(model, drafts, example), example)


def _record(model: nn.Module, trail: Trail, example: Inputs, followed: Followed) -> Record:
    runs = [partial(way.run, model, example) for way in followed.passes]
    runs += [partial(call, model, inputs) for inputs in followed.detours]
    forget(model)
    with evaluating(model):
        return record_units(model, runs, trail.norm_after)


def _drafts(
    model: nn.Module, trail: Trail, record: Record, followed: Followed
) -> tuple[dict[str, ChannelGroup], dict[str, Reason]]:
    """Groups by name, and the modules that stay whole with the reason."""
    found: dict[str, ChannelGroup] = {}
    left_whole: dict[str, Reason] = {}
    for every, reason in read_groups(model, record, _reached(trail, followed)):
        group, reason = _of_eval(every, reason, trail, followed)
        if reason:
            for member in group.producers:
                left_whole.setdefault(member.module, reason)
        else:
            found[group.name] = group
    return found, left_whole


def _settled(
    model: nn.Module,
    drafts: Mapping[str, ChannelGroup],
    guessed: dict[str, ChannelGroup],
    example: Inputs,
) -> dict[str, ChannelGroup]:
    """Groups with the numbers and widths with which a cut runs; as guessed where all are sound."""
    return settle_widths(model, prove_sizes(model, drafts, guessed, example), example)


def _reached(trail: Trail, followed: Followed) -> dict[str, int]:
    """How often each module runs, in order; those that only other calls reach come last."""
    return trail.calls | {n: runs for n, runs in followed.runs.items() if n not in trail.calls}


def _of_eval(
    group: ChannelGroup, reason: Reason | None, trail: Trail, followed: Followed
) -> tuple[ChannelGroup, Reason | None]:
    """A group whose consumers are those of the first call, and why it stays whole."""
    parts = [*group.modules(), *(bare.module for bare in group.parameters)]
    varying = next((name for name in parts if name in followed.varying), None)
    makers = [m.module for m in group.producers if m.module not in trail.calls]
    read = tuple(member for member in group.consumers if member.module in trail.calls)
    if not reason and varying is not None:
        reason = Reason("calls", f"{varying} runs for some inputs only")
    elif not reason and (makers or not read):
        part = makers[0] if makers else group.consumers[0].module
        reason = Reason(
            "calls", f"{part} runs in other calls than forward only, such as in train mode"
        )
    if reason:
        return group, reason
    apart = tuple(member for member in group.consumers if member not in read)
    return replace(group, consumers=read, other_consumers=apart), None


def _assemble(
    model: nn.Module,
    trail: Trail,
    record: Record,
    found: dict[str, ChannelGroup],
    left_whole: dict[str, Reason],
) -> ChannelGraph:
    lives = {name: _life(group, trail) for name, group in found.items()}
    groups = {name: found[name] for name in sorted(found, key=lambda n: (-lives[n].read, n))}
    modules = dict(model.named_modules())
    owners: dict[str, dict[str, Member]] = {}
    for name, group in groups.items():
        for member in group.producers:
            owners.setdefault(member.module, {})[name] = member
    pairs = [
        _pair(name, member, layer_at(model, member.module), trail.positions[member.module], owners)
        for name, group in groups.items()
        for member in sorted(group.consumers, key=lambda m: trail.position(m.module))
    ]
    macs = {name: macs for name, macs in record.macs.items() if name not in record.along_places}
    component = components_of(record)
    costs = (
        *count_costs(modules, trail, macs, groups),
        *costs_along_places(record, component, groups),
    )
    called = {cost.module for cost in costs}
    counted = sum(cost.weights + cost.per_output * cost.out_features for cost in costs)
    return ChannelGraph(
        groups=groups,
        pairs=tuple(pairs),
        left_whole=left_whole,
        costs=costs,
        fixed_params=sum(p.numel() for p in model.parameters()) - counted,
        norm_after=trail.norm_after,
        widths={name: group.width for name, group in groups.items()},
        lives={name: lives[name] for name in groups},
        sums=record.outputs.sums,
        rectified=record.outputs.rectified,
        repeated=trail.repeated,
        products=count_products(record, component, groups, called),
    )


def _life(group: ChannelGroup, trail: Trail) -> Life:
    return Life(
        min(trail.position(member.module) for member in group.producers),
        max(trail.ends[member.module] for member in group.consumers),
    )


def _pair(
    group: str,
    member: Member,
    consumer: Layer,
    positions: int,
    owners: Mapping[str, Mapping[str, Member]],
) -> LayerPair:
    targets = consumer.outputs.features
    producers = owners.get(member.module, {})
    return LayerPair(
        name=f"{group}--{member.module}",
        group=group,
        consumer=member.module,
        kind=consumer.kind,
        features=member.features,
        targets=targets,
        positions=positions,
        owners={name: made.channels(targets) for name, made in producers.items()},
    )
