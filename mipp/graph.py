"""Channel groups, their consumers and costs, read from Torch-Pruning's dependency graph."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch_pruning as tp
from torch import Tensor, nn

from mipp.errors import ModelError
from mipp.models.resnet_cifar import PaddedShortcut

IntArray = npt.NDArray[np.int64]
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONSUMERS = (nn.Conv2d, nn.Linear, PaddedShortcut)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Member:
    """One side of a module that a channel group runs through.

    `features[c]` are the indices, on that side, of the group's channel c; shape (width, block).
    """

    module: str
    features: IntArray


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together.

    Producers make the channels (conv and linear outputs), passengers carry them (batch-norm,
    depthwise convolutions), consumers read them (conv and linear inputs).
    """

    name: str
    width: int
    producers: tuple[Member, ...]
    passengers: tuple[Member, ...]
    consumers: tuple[Member, ...]


@dataclass(frozen=True)
class LayerPair:
    """One consumer of one group: x are the group's features at its input, y is its output.

    `owner` is the group that owns the rows of y (None: the network's outputs) and `channel[j]`
    the owner's channel of row j.
    """

    name: str
    group: str
    consumer: str
    kind: Literal["conv", "linear", "shortcut"]
    features: IntArray  # (channels, block of input features)
    targets: int
    positions: int  # of the output map, or tokens
    owner: str | None
    channel: IntArray  # (targets,)


@dataclass(frozen=True)
class LayerCost:
    """Parameters and multiply-accumulates of one module at full width.

    `inputs` and `outputs` name the groups on either side with the features of each channel;
    a passenger has them on one side only.
    """

    module: str
    weights: int
    per_output: int
    macs: int
    in_features: int
    out_features: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class ChannelGraph:
    """What can be pruned in a network, in top-down order, and what it costs."""

    groups: Mapping[str, ChannelGroup]  # groups with the latest consumer first
    pairs: tuple[LayerPair, ...]
    left_whole: Mapping[str, str]  # module -> reason
    costs: tuple[LayerCost, ...]
    fixed_params: int
    norm_after: Mapping[str, str]  # conv or linear -> the batch-norm that reads its output
    widths: Mapping[str, int] = field(default_factory=dict)

    def pairs_of(self, group: str) -> tuple[LayerPair, ...]:
        """The pairs whose upstream is this group."""
        return tuple(pair for pair in self.pairs if pair.group == group)

    def params(self, kept: Mapping[str, int]) -> int:
        """Parameters when each group keeps that many channels."""
        return self.fixed_params + round(sum(_params(cost, self, kept) for cost in self.costs))

    def macs(self, kept: Mapping[str, int]) -> int:
        """Multiply-accumulates of one input when each group keeps that many channels."""
        return round(sum(cost.macs * _share(cost, self, kept) for cost in self.costs))


def _kept_features(
    total: int, terms: Mapping[str, int], graph: ChannelGraph, kept: Mapping[str, int]
) -> int:
    return total - sum((graph.widths[g] - kept[g]) * block for g, block in terms.items())


def _share(cost: LayerCost, graph: ChannelGraph, kept: Mapping[str, int]) -> float:
    inputs = _kept_features(cost.in_features, cost.inputs, graph, kept)
    outputs = _kept_features(cost.out_features, cost.outputs, graph, kept)
    return inputs * outputs / (cost.in_features * cost.out_features)


def _params(cost: LayerCost, graph: ChannelGraph, kept: Mapping[str, int]) -> float:
    outputs = _kept_features(cost.out_features, cost.outputs, graph, kept)
    return cost.weights * _share(cost, graph, kept) + cost.per_output * outputs


class _ShortcutPruner(tp.pruner.function.BasePruningFunc):  # type: ignore[misc]
    """Tells Torch-Pruning that the two sides of a padded shortcut are not coupled."""

    def prune_out_channels(self, layer: PaddedShortcut, idxs: list[int]) -> nn.Module:
        layer.drop_outputs(list(idxs))
        return layer

    def prune_in_channels(self, layer: PaddedShortcut, idxs: list[int]) -> nn.Module:
        layer.drop_inputs(list(idxs))
        return layer

    def get_out_channels(self, layer: PaddedShortcut) -> int:
        return layer.out_channels

    def get_in_channels(self, layer: PaddedShortcut) -> int:
        return layer.in_channels


def trace_dependencies(model: nn.Module, example: Tensor) -> tuple[Any, nn.Module]:
    """Torch-Pruning's dependency graph over a copy of the model, and that copy.

    Raises
    ------
    ModelError : the forward pass fails on the example, or its graph cannot be followed.
    """
    traced = copy.deepcopy(model).eval()
    frozen = [p for p in traced.parameters() if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its notes on unwrapped parameters
            dependencies = tp.DependencyGraph().build_dependency(
                traced, example, customized_pruners={PaddedShortcut: _ShortcutPruner()}
            )
    except Exception as error:
        raise ModelError(
            f"model {type(model).__name__} cannot be traced with an input of shape "
            f"{tuple(example.shape)}.\nExpected a forward pass that autograd can follow, got "
            f"{type(error).__name__}: {error}; check the input's shape and that the model "
            "runs under torch.enable_grad()."
        ) from error
    for parameter in frozen:
        parameter.requires_grad_(False)
    return dependencies, traced


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
    dependencies, traced = trace_dependencies(model, example)
    found: dict[str, ChannelGroup] = {}
    left_whole: dict[str, str] = {}
    for group, reason in _iterate_groups(dependencies, traced, trail):
        if reason:
            left_whole.update({member.module: reason for member in group.producers})
        else:
            found[group.name] = group
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_whole.items())
        raise ModelError(
            f"model {type(model).__name__} has no channels to prune.\nExpected at least one "
            f"conv or linear layer that feeds another, got {reasons or 'no such layer'}."
        )
    return _assemble(model, trail, found, left_whole)


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
            if not inputs or not isinstance(output, Tensor):
                return
            if isinstance(module, CONSUMERS):
                width = output.shape[-1 if isinstance(module, nn.Linear) else 1]
                trail.positions[name] = output[0].numel() // width
            if isinstance(module, (*CONVS, nn.Linear)):
                makers[id(output)] = (name, output)
                per_output = module.weight[0].numel()
                trail.macs[name] = trail.macs.get(name, 0) + output[0].numel() * per_output
            if isinstance(module, NORMS) and id(inputs[0]) in makers:
                trail.norm_after[makers[id(inputs[0])][0]] = name

        return hook

    leaves = [(n, m) for n, m in model.named_modules() if not any(True for _ in m.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(example)
    except Exception as error:
        raise ModelError(
            f"model {type(model).__name__} does not run on an input of shape "
            f"{tuple(example.shape)}: {type(error).__name__}: {error}.\n"
            "Give calibration inputs of the shape that the model expects."
        ) from error
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return trail


def _iterate_groups(
    dependencies: Any, traced: nn.Module, trail: _Trail
) -> Iterator[tuple[ChannelGroup, str]]:
    """Every group once, in execution order of its first producer, with why it stays whole."""
    names = {module: name for name, module in traced.named_modules()}
    modules = dict(traced.named_modules())
    seen: set[str] = set()
    for name in trail.calls:
        module = modules[name]
        if name in seen or not isinstance(module, (*CONVS, nn.Linear)):
            continue
        if isinstance(module, CONVS) and module.groups > 1:
            continue  # a passenger or grouped: met from its input's side
        if module not in dependencies.module2node:
            continue
        pruner = dependencies.get_pruner_of_module(module)
        width = pruner.get_out_channels(module)
        raw = dependencies.get_pruning_group(module, pruner.prune_out_channels, list(range(width)))
        group, reason = _read_group(raw, name, width, dependencies, names, trail)
        seen.update(member.module for member in group.producers)
        yield group, reason


def _read_group(
    raw: Any, name: str, width: int, dependencies: Any, names: dict[nn.Module, str], trail: _Trail
) -> tuple[ChannelGroup, str]:
    sides: dict[str, list[Member]] = {"producers": [], "passengers": [], "consumers": []}
    reason = ""
    for item in raw:
        module = item.dep.target.module
        if isinstance(module, tp.ops._OutputOp):
            reason = reason or "feeds the network's output"
            continue
        if module not in names:
            reason = reason or _unfollowed(module)
            continue
        is_out = dependencies.is_out_channel_pruning_fn(item.dep.handler)
        is_in = dependencies.is_in_channel_pruning_fn(item.dep.handler)
        side = "passengers" if is_out and is_in else "producers" if is_out else "consumers"
        features = _features(item, width)
        if features is None:
            reason = reason or f"its channels do not map evenly onto {names[module]}"
            features = np.zeros((width, 0), np.int64)
        member = Member(names[module], features)
        sides[side].append(member)
        reason = reason or _unsound(module, member, side, trail)
    reason = reason or ("" if sides["consumers"] else "no conv or linear layer reads it")
    group = ChannelGroup(name, width, *(tuple(members) for members in sides.values()))
    return group, reason


def _unfollowed(module: nn.Module) -> str:
    if isinstance(module, nn.Parameter):
        return "a bare parameter is added to or multiplied with its channels"
    return ""


def _features(item: Any, width: int) -> IntArray | None:
    """Features of each channel, (width, block), or None when channels differ in their number."""
    indices = np.asarray(item.idxs, np.int64)
    roots = np.asarray(item.root_idxs, np.int64)
    if indices.size % width or not np.array_equal(
        np.bincount(roots, minlength=width), np.full(width, indices.size // width)
    ):
        return None
    return indices[np.argsort(roots, kind="stable")].reshape(width, -1)


def _unsound(module: nn.Module, member: Member, side: str, trail: _Trail) -> str:
    """Why pruning this member would not be exact; empty when it is."""
    if trail.calls.get(member.module, 0) > 1:
        return f"{member.module} runs more than once"
    if side == "consumers":
        if not isinstance(module, CONSUMERS):
            return f"{member.module} ({type(module).__name__}) reads it"
        if isinstance(module, CONVS) and module.groups > 1:
            return f"{member.module} is a grouped convolution"
        return ""
    if side == "producers":
        total = module.out_channels if hasattr(module, "out_channels") else module.out_features
        covered = np.unique(member.features)
        if covered.size != total or covered[-1] != covered.size - 1:
            return f"it covers only some channels of {member.module}"
        return ""
    if isinstance(module, CONVS) and module.groups == module.out_channels == module.in_channels:
        return ""
    if not isinstance(module, (*NORMS, nn.PReLU)):
        return f"{member.module} ({type(module).__name__}) mixes or rescales its channels"
    return ""


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
        elif isinstance(module, (*NORMS, nn.PReLU)) and name in makes:
            outputs, inputs, weights = _norm_width(module), 1, 0
            per_output = sum(p.numel() for p in module.parameters()) // outputs
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
    return tuple(costs)


def _norm_width(module: nn.Module) -> int:
    return int(module.num_features) if isinstance(module, NORMS) else int(module.num_parameters)  # type: ignore[arg-type]
