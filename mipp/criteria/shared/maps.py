"""Feature maps of every group, as the layers that read it see them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mipp.activations import capture_whole
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import first_inputs
from mipp.graph import ChannelGroup, Member
from mipp.layers import layer_at

TOGETHER = 32  # images whose maps are held at once


def maps_by_group(given: CriterionInput, images: int) -> Iterator[tuple[str, Tensor]]:
    """Maps (n, width, height, width of the map) of the first images, by group, consumer and call.

    A convolution reads maps as they are. Features of one channel that were flattened, and tokens
    (a class token set aside), are laid out as a square where they are one; an attention's head
    is a map of tokens by features. What is no map at all has one row, a lone value one pixel.
    """
    groups = given.graph.groups
    readers = list(dict.fromkeys(m.module for group in groups.values() for m in group.consumers))
    batches = first_inputs(given, images, TOGETHER)
    for inputs in capture_whole(given.model, readers, "inputs", batches):
        for name, group in groups.items():
            for member in group.consumers:
                for x in inputs[member.module]:
                    yield name, _maps(given.model, group, member, x)


def _maps(model: nn.Module, group: ChannelGroup, member: Member, x: Tensor) -> Tensor:
    features = torch.from_numpy(member.features.ravel()).to(x.device)
    block = member.features.shape[1]
    if layer_at(model, member.module).inputs.axis == 1:
        return x[:, features].reshape(len(x), group.width, -1, x.shape[-1])
    x = x.reshape(len(x), -1, x.shape[-1])[:, :, features]  # (n, tokens, width * block)
    x = x.reshape(*x.shape[:2], group.width, block).permute(0, 2, 1, 3)
    if block > 1 and x.shape[2] > 1:
        return x
    tokens = block == 1
    return _folded(x.flatten(2), tokens)


def _folded(x: Tensor, tokens: bool) -> Tensor:
    """(n, width, k) as squares where k, of tokens also k - 1, is the area of one."""
    spare = 1 if tokens and _side(x.shape[2] - 1) > 1 and not _side(x.shape[2]) else 0
    side = _side(x.shape[2] - spare)
    return x[..., spare:].reshape(*x.shape[:2], side, side) if side else x.unsqueeze(2)


def _side(area: int) -> int:
    """Side of the square of that area, 0 where there is none."""
    side = math.isqrt(area)
    return side if side * side == area else 0
