"""Which channels go together, from Torch-Pruning's dependency graph, and their removal."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from mipp.errors import ModelError
from mipp.graph.channels import ChannelGroup, IntArray, Member
from mipp.models.resnet_cifar import PaddedShortcut

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PRODUCERS = (*CONVS, nn.Linear, PaddedShortcut)
CONSUMERS = (nn.Conv2d, nn.Linear, PaddedShortcut)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


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
    for parameter in traced.parameters():
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
    return dependencies, traced


def cut_channels(model: nn.Module, dropped: Mapping[str, IntArray], example: Tensor) -> nn.Module:
    """A copy of the model without these channels of these groups; modes and flags as they were.

    Parameters
    ----------
    dropped : group -> channels to remove, fewer than all.
    """
    dependencies, cut = trace_dependencies(model, example)
    for name, channels in dropped.items():
        if len(channels):
            root = cut.get_submodule(name)
            pruner = dependencies.get_pruner_of_module(root)
            group = dependencies.get_pruning_group(
                root, pruner.prune_out_channels, channels.tolist()
            )
            group.prune(record_history=False)
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in cut.named_modules():
        module.training = modes[name]
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    for name, parameter in cut.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(name not in frozen)
    return cut


def iterate_groups(
    dependencies: Any, traced: nn.Module, calls: Mapping[str, int]
) -> Iterator[tuple[ChannelGroup, str]]:
    """Every group once, in execution order of its first producer, with why it stays whole.

    Parameters
    ----------
    calls : how often each module runs, in execution order.
    """
    names = {module: name for name, module in traced.named_modules()}
    modules = dict(traced.named_modules())
    seen: set[str] = set()
    tied = _tied(traced)
    for name in calls:
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
        group, reason = _read_group(raw, name, width, dependencies, names, calls)
        shared = next((m for m in group.modules() if m in tied), None)
        reason = reason or (f"{shared} shares its weights with another module" if shared else "")
        seen.update(member.module for member in group.producers)
        yield group, reason


def _read_group(
    raw: Any,
    name: str,
    width: int,
    dependencies: Any,
    names: dict[nn.Module, str],
    calls: Mapping[str, int],
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
        reason = reason or _unsound(module, member, side, calls)
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


def _unsound(module: nn.Module, member: Member, side: str, calls: Mapping[str, int]) -> str:
    """Why pruning this member would not be exact; empty when it is."""
    if calls.get(member.module, 0) > 1:
        return f"{member.module} runs more than once"
    if side == "consumers":
        if not isinstance(module, CONSUMERS):
            return f"{member.module} ({type(module).__name__}) reads it"
        if isinstance(module, CONVS) and module.groups > 1:
            return f"{member.module} is a grouped convolution"
        return ""
    if side == "producers":
        if not isinstance(module, PRODUCERS):
            return f"{member.module} ({type(module).__name__}) makes it"
        if isinstance(module, CONVS) and module.groups > 1:
            return f"{member.module} is a grouped convolution"
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


def _tied(model: nn.Module) -> set[str]:
    """Modules that hold a parameter which another module holds too."""
    holders: dict[nn.Parameter, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(parameter, []).append(name)
    return {name for names in holders.values() if len(names) > 1 for name in names}
