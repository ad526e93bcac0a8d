"""Pairs from a network's input to its first layers, so that selection can go on to the pixels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mipp.evaluation import evaluating
from mipp.graph.channels import ChannelGraph, LayerPair
from mipp.graph.dependencies import CONVS

PIXELS = "pixels"  # stands for the network's input among the groups
TARGETS = 4096  # of a first layer's outputs at most, while every pixel is still read


def pixel_pairs(model: nn.Module, graph: ChannelGraph, example: Tensor) -> tuple[LayerPair, ...]:
    """One pair per conv or linear layer that reads the input image itself.

    A pixel, with all its colours, is a channel of the upstream side; the targets are the layer's
    outputs over the whole map (thinned to a grid where they are too many).

    Parameters
    ----------
    example : one image, (1, c, h, w), on the model's device.
    """
    found: dict[str, LayerPair] = {}
    source = example.untyped_storage().data_ptr()

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            same = inputs and inputs[0].untyped_storage().data_ptr() == source
            if same and inputs[0].numel() == example.numel():
                found[name] = _pixel_pair(name, module, graph, example, output)

        return hook

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (*CONVS, nn.Linear))]
    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers]
    try:
        with evaluating(model), torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found.values())


def grid_step(module: nn.Module, output: Tensor) -> int:
    """Every how many outputs of a map, along each side, count as targets.

    At most so many that every pixel is still under some kernel.
    """
    if not isinstance(module, CONVS):
        return 1
    furthest = max(1, min(k // s for k, s in zip(module.kernel_size, module.stride, strict=True)))
    steps = range(1, furthest + 1)
    fitting = [step for step in steps if output[0][:, ::step, ::step].numel() <= TARGETS]
    return fitting[0] if fitting else furthest


def _pixel_pair(
    name: str, module: nn.Module, graph: ChannelGraph, example: Tensor, output: Tensor
) -> LayerPair:
    colours = example.shape[1]
    pixels = example[0, 0].numel()
    step = grid_step(module, output)
    kind: Literal["pixels"] = "pixels"
    channels = output[0, :, ::step, ::step] if output.ndim == 4 else output[0]
    each = channels[0].numel() if output.ndim == 4 else 1
    owner, channel = None, np.full(output.shape[1], -1, np.int64)
    for group in graph.groups.values():
        for member in group.producers:
            if member.module == name:
                owner = group.name
                rows, block = member.features.shape
                channel[member.features.ravel()] = np.repeat(np.arange(rows), block)
    return LayerPair(
        name=f"{PIXELS}--{name}",
        group=PIXELS,
        consumer=name,
        kind=kind,
        features=np.arange(pixels)[:, None] + pixels * np.arange(colours),
        targets=channels.numel(),
        positions=1,
        owner=owner,
        channel=np.repeat(channel, each),
    )
