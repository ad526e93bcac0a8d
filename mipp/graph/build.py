"""Builds the channel graph of a network: groups, pairs, costs, and a proof that it is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mipp.errors import ModelError
from mipp.evaluation import evaluating
from mipp.graph.channels import ChannelGraph, ChannelGroup, LayerCost, LayerPair, Member
from mipp.graph.grouping import read_groups
from mipp.graph.kinds import CONSUMERS, CONVS, NORMS, TRANSPOSED
from mipp.graph.labels import record_labels
from mipp.graph.probe import find_unsound
from mipp.models.attention import is_plain
from mipp.models.resnet_cifar import PaddedShortcut


def build_graph(model: nn.Module, example: Tensor) -> ChannelGraph:
    """Prunable channel groups of a network with their layer pairs and costs.

    Parameters
    ----------
    model : any module that maps one tensor to one tensor; left as found.
    example : one input, shape (1, ...), on the model's device.

    Raises
    ------
    ModelError : the model cannot be traced, or nothing in it can be pruned.
    """
    trail = _run(model, example)
    found, left_whole = _sound_groups(model, trail, example)
    for name, reason in find_unsound(model, found, example).items():
        left_whole.update({member.module: reason for member in found.pop(name).producers})
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_whole.items())
        raise ModelError(
            f"model {type(model).__name__} has no channels to prune.\nExpected at least one "
            f"conv or linear layer that feeds another, got {reasons or 'no such layer'}."
        )
    return _assemble(model, trail, found, left_whole)


def find_groups(model: nn.Module, example: Tensor) -> dict[str, ChannelGroup]:
    """The groups of `build_graph`, and perhaps some that it found to be unsound; much faster.

    Raises
    ------
    ModelError : the model cannot be traced.
    """
    return _sound_groups(model, _run(model, example), example)[0]


def _sound_groups(
    model: nn.Module, trail: _Trail, example: Tensor
) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """Groups by name, and the modules that stay whole with the reason."""
    with evaluating(model):
        record = record_labels(model, lambda: model(example))
    found: dict[str, ChannelGroup] = {}
    left_whole: dict[str, str] = {}
    for group, reason in read_groups(model, record, trail.calls):
        if reason:
            for member in group.producers:
                left_whole.setdefault(member.module, reason)
        else:
            found[group.name] = group
    return found, left_whole


@dataclass
class _Trail:
    """What one forward pass saw: calls per module in order, MACs, tensors' makers."""

    calls: dict[str, int] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    norm_after: dict[str, str] = field(default_factory=dict)

    def position(self, module: str) -> int:
        return list(self.calls).index(module)


def _run(model: nn.Module, example: Tensor) -> _Trail:
    trail = _Trail()
    makers: dict[int, tuple[str, Tensor]] = {}  # id of a tensor -> its maker, kept alive

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            trail.calls[name] = trail.calls.get(name, 0) + 1
            if isinstance(module, nn.MultiheadAttention) and inputs:
                per_token = module.in_proj_weight.numel()
                tokens = inputs[0].numel() // inputs[0].shape[-1]
                trail.macs[name] = trail.macs.get(name, 0) + tokens * per_token
            if not inputs or not isinstance(output, Tensor):
                return
            if isinstance(module, CONSUMERS):
                width = output.shape[-1 if isinstance(module, nn.Linear) else 1]
                trail.positions[name] = output[0].numel() // width
            if isinstance(module, (*CONVS, nn.Linear)):
                makers[id(output)] = (name, output)
                per_output = module.weight[0].numel()
                trail.macs[name] = trail.macs.get(name, 0) + output[0].numel() * per_output
            if isinstance(module, TRANSPOSED):
                per_input = module.weight[0].numel()
                trail.macs[name] = trail.macs.get(name, 0) + inputs[0][0].numel() * per_input
            if isinstance(module, NORMS) and id(inputs[0]) in makers:
                trail.norm_after[makers[id(inputs[0])][0]] = name

        return hook

    leaves = [
        (name, module)
        for name, module in model.named_modules()
        if is_plain(module) or not any(True for _ in module.children())
    ]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        with evaluating(model), torch.no_grad():
            model(example)
    except Exception as error:
        raise ModelError(
            f"model {type(model).__name__} does not run on an input of shape "
            f"{tuple(example.shape)}: {type(error).__name__}: {error}.\n"
            "Give calibration inputs of the shape that the model expects."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return trail


def _assemble(
    model: nn.Module,
    trail: _Trail,
    found: dict[str, ChannelGroup],
    left_whole: dict[str, str],
) -> ChannelGraph:
    latest = {
        name: max(trail.position(member.module) for member in group.consumers)
        for name, group in found.items()
    }
    groups = {name: found[name] for name in sorted(found, key=lambda n: (-latest[n], n))}
    modules = dict(model.named_modules())
    owners = {
        member.module: (name, member)
        for name, group in groups.items()
        for member in group.producers
    }
    pairs = [
        _pair(name, member, modules[member.module], trail.positions[member.module], owners)
        for name, group in groups.items()
        for member in sorted(group.consumers, key=lambda m: trail.position(m.module))
    ]
    costs = _costs(modules, trail, groups)
    counted = sum(cost.weights + cost.per_output * cost.out_features for cost in costs)
    return ChannelGraph(
        groups=groups,
        pairs=tuple(pairs),
        left_whole=left_whole,
        costs=costs,
        fixed_params=sum(p.numel() for p in model.parameters()) - counted,
        norm_after=trail.norm_after,
        widths={name: group.width for name, group in groups.items()},
    )


def _pair(
    group: str,
    member: Member,
    consumer: nn.Module,
    positions: int,
    owners: Mapping[str, tuple[str, Member]],
) -> LayerPair:
    kind: Literal["conv", "linear", "shortcut"] = "conv"
    if isinstance(consumer, nn.Linear):
        kind = "linear"
    elif isinstance(consumer, PaddedShortcut):
        kind = "shortcut"
    targets = consumer.out_features if isinstance(consumer, nn.Linear) else consumer.out_channels
    assert isinstance(targets, int)
    owner, produced = owners.get(member.module, (None, None))
    channel = np.full(targets, -1, np.int64)
    if produced is not None:
        rows, block = produced.features.shape
        channel[produced.features.ravel()] = np.repeat(np.arange(rows), block)
    return LayerPair(
        name=f"{group}--{member.module}",
        group=group,
        consumer=member.module,
        kind=kind,
        features=member.features,
        targets=targets,
        positions=positions,
        owner=owner,
        channel=channel,
    )


def _costs(
    modules: Mapping[str, nn.Module], trail: _Trail, groups: Mapping[str, ChannelGroup]
) -> tuple[LayerCost, ...]:
    """Costs of every module with parameters that some group touches, and of all convs."""
    reads: dict[str, dict[str, int]] = {}
    makes: dict[str, dict[str, int]] = {}
    for name, group in groups.items():
        for member in group.consumers:
            reads.setdefault(member.module, {})[name] = member.features.shape[1]
        for member in (*group.producers, *group.passengers):
            makes.setdefault(member.module, {})[name] = member.features.shape[1]
    costs = []
    for name in trail.calls:
        module = modules[name]
        if isinstance(module, (*CONVS, nn.Linear)):
            outputs, inputs = module.weight.shape[:2]
            if isinstance(module, CONVS) and module.groups > 1:
                inputs = 1
            per_output = 1 if module.bias is not None else 0
            weights = module.weight.numel()
        elif is_plain(module):
            assert isinstance(module, nn.MultiheadAttention)
            outputs, inputs = module.in_proj_weight.shape
            per_output = 1 if module.in_proj_bias is not None else 0
            weights = module.in_proj_weight.numel()
        elif name in makes and _norm_width(module) > 1:
            outputs, inputs, weights = _norm_width(module), 1, 0
            per_output = sum(p.numel() for p in module.parameters()) // outputs
        elif isinstance(module, TRANSPOSED):  # never cut: its cost is a constant
            outputs, inputs, weights, per_output = 1, 1, 0, 0
        else:
            continue
        costs.append(
            LayerCost(
                module=name,
                weights=weights,
                per_output=per_output,
                macs=trail.macs.get(name, 0),
                in_features=inputs,
                out_features=outputs,
                inputs=reads.get(name, {}),
                outputs=makes.get(name, {}),
            )
        )
    return (*costs, *_bare_costs(modules[""], groups))


def _bare_costs(model: nn.Module, groups: Mapping[str, ChannelGroup]) -> Iterator[LayerCost]:
    for group in groups.values():
        for bare in group.parameters:
            shape = model.get_parameter(bare.module).shape
            outputs = shape[bare.axis]
            yield LayerCost(
                module=bare.module,
                weights=0,
                per_output=shape.numel() // outputs,
                macs=0,
                in_features=1,
                out_features=outputs,
                inputs={},
                outputs={group.name: bare.features.shape[1]},
            )


def _norm_width(module: nn.Module) -> int:
    """Channels with parameters of their own."""
    return int(getattr(module, "num_features", 0))
