"""Removes channels from a copy of a network, given the groups that they belong to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import numpy as np
from torch import nn

from mipp.evaluation import forget
from mipp.graph.channels import ChannelGroup
from mipp.graph.layouts import less
from mipp.graph.tied import retie, tied
from mipp.layers import IntArray, layer_at, layer_of
from mipp.layers.layer import keep_indices


def cut_channels(
    model: nn.Module,
    groups: Mapping[str, ChannelGroup],
    dropped: Mapping[str, IntArray],
    *,
    parameters: Literal["copied", "shared"] = "copied",
) -> nn.Module:
    """A copy of the model without these channels of these groups; modes and flags as they were.

    Parameters
    ----------
    dropped : group -> channels to remove, fewer than all.
    parameters : of layers that lose nothing: new ones, or the model's own, for a cut that is only
        run. What a cut changes is always new.
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
        for member in group.readers:
            inputs.setdefault(member.module, []).append(member.features[channels].ravel())
        for bare in group.parameters:
            slices.setdefault((bare.module, bare.axis), []).append(bare.features[channels].ravel())
        for size in group.sizes:
            place = (size.module, size.attribute)
            shrunk[place] = shrunk.get(place, 0) + len(channels) * size.block
    shareable = {
        id(parameter): parameter
        for name, parameter in model.named_parameters()
        if ".parametrizations." not in f".{name}"  # those torch writes in their place
    }
    cut = copy.deepcopy(model, shareable if parameters == "shared" else None)
    shared = tied(cut)
    for name, gone in inputs.items():
        layer_at(cut, name).cut("inputs", np.concatenate(gone))
    for name, gone in outputs.items():
        layer_at(cut, name).cut("outputs", np.concatenate(gone))
    for (name, axis), gone in slices.items():
        owner, _, key = name.rpartition(".")
        holder = cut.get_submodule(owner)
        kept = np.setdiff1d(np.arange(getattr(holder, key).shape[axis]), np.concatenate(gone))
        keep_indices(holder, key, kept, axis)
    for (name, attribute), features in shrunk.items():
        module = cut.get_submodule(name)
        attr, *keys = attribute.split(".")
        setattr(module, attr, less(getattr(module, attr), keys, features))
    retie(cut, shared)
    for layer in filter(None, map(layer_of, cut.modules())):
        layer.settle()
    forget(cut)
    for parameter in cut.parameters():
        parameter.grad = None
    return cut
