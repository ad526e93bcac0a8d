"""Removes channels from a copy of a network, given the groups that they belong to."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from mipp.graph.channels import ChannelGroup, IntArray
from mipp.graph.kinds import CONVS, LAYER_NORMS
from mipp.layers.attention import keep_heads, keep_inputs
from mipp.layers.padded_shortcut import PaddedShortcut
from mipp.layers.window_attention import become_pruned, is_window_attention


def cut_channels(
    model: nn.Module, groups: Mapping[str, ChannelGroup], dropped: Mapping[str, IntArray]
) -> nn.Module:
    """A copy of the model without these channels of these groups; modes and flags as they were.

    Parameters
    ----------
    dropped : group -> channels to remove, fewer than all.
    """
    outputs: dict[str, list[IntArray]] = {}
    inputs: dict[str, list[IntArray]] = {}
    slices: dict[tuple[str, int], list[IntArray]] = {}
    shrunk: dict[tuple[str, str], int] = {}
    for name, channels in dropped.items():
        if not len(channels):
            continue
        group = groups[name]
        for member in (*group.producers, *group.passengers):
            outputs.setdefault(member.module, []).append(member.features[channels].ravel())
        for member in group.consumers:
            inputs.setdefault(member.module, []).append(member.features[channels].ravel())
        for bare in group.parameters:
            slices.setdefault((bare.module, bare.axis), []).append(bare.features[channels].ravel())
        for size in group.sizes:
            place = (size.module, size.attribute)
            shrunk[place] = shrunk.get(place, 0) + len(channels) * size.block
    # what is replaced anyway is not copied: the new tensors are made from the old module's
    cut = copy.deepcopy(model)
    for name, gone in inputs.items():
        _cut_inputs(cut.get_submodule(name), np.concatenate(gone))
    for name, gone in outputs.items():
        _cut_outputs(cut.get_submodule(name), np.concatenate(gone))
    for (name, axis), gone in slices.items():
        owner, _, key = name.rpartition(".")
        module = cut.get_submodule(owner)
        _replace(module, key, np.concatenate(gone), axis)
        if isinstance(module, nn.PReLU):
            module.num_parameters = module.weight.numel()
    for (name, attribute), features in shrunk.items():
        module = cut.get_submodule(name)
        setattr(module, attribute, getattr(module, attribute) - features)
    for module in cut.modules():
        # torchvision's own forward divides its input's features among the heads
        if is_window_attention(module) and module.qkv.out_features != 3 * module.qkv.in_features:  # type: ignore[union-attr, operator]
            become_pruned(module)
    for parameter in cut.parameters():
        parameter.grad = None
    return cut


def _cut_inputs(module: nn.Module, gone: IntArray) -> None:
    if isinstance(module, PaddedShortcut):
        module.drop_inputs(gone.tolist())
        return
    if isinstance(module, nn.MultiheadAttention):
        kept = np.setdiff1d(np.arange(module.in_proj_weight.shape[1]), gone)
        keep_inputs(module, torch.from_numpy(kept))
        return
    _replace(module, "weight", gone, 1)
    if isinstance(module, nn.Linear):
        module.in_features = module.weight.shape[1]
    elif isinstance(module, CONVS):
        module.in_channels = module.weight.shape[1]


def _cut_outputs(module: nn.Module, gone: IntArray) -> None:
    if isinstance(module, PaddedShortcut):
        module.drop_outputs(gone.tolist())
        return
    if isinstance(module, nn.MultiheadAttention):
        heads = np.unique(gone % (module.num_heads * module.head_dim) // module.head_dim)
        keep_heads(module, torch.from_numpy(np.setdiff1d(np.arange(module.num_heads), heads)))
        return
    for name in ("weight", "bias", "running_mean", "running_var"):
        _replace(module, name, gone, 0)
    if isinstance(module, nn.Linear):
        module.out_features -= len(gone)
    elif isinstance(module, CONVS):
        before = module.out_channels
        module.out_channels -= len(gone)
        if module.groups > 1:
            module.groups = module.groups * module.out_channels // before
            module.in_channels = module.groups * module.weight.shape[1]
    elif isinstance(module, LAYER_NORMS):
        module.normalized_shape = (module.normalized_shape[0] - len(gone),)
    else:
        assert isinstance(module, nn.modules.batchnorm._BatchNorm)
        module.num_features -= len(gone)


def _replace(module: nn.Module, name: str, gone: IntArray, axis: int) -> None:
    """The tensor of that name without these indices along an axis."""
    old = getattr(module, name, None)
    if not isinstance(old, torch.Tensor):
        return
    kept = np.setdiff1d(np.arange(old.shape[axis]), gone)
    new = old.detach().index_select(axis, torch.from_numpy(kept).to(old.device))
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(module, name, new)
