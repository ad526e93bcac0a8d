"""Pairs from a network's input to its first layers, so that selection can go on to the pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mipp.evaluation import evaluating
from mipp.graph.channels import ChannelGraph, LayerPair
from mipp.hooked_mode import hooked
from mipp.layers import Window, layer_of

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
            if same and tuple(inputs[0].shape) in (example.shape, (1, example.numel())):
                found[name] = _pixel_pair(name, module, graph, example, output)

        return hook

    watching = (
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if (layer := layer_of(module)) is not None and layer.filters is not None
    )
    with hooked(watching), evaluating(model), torch.no_grad():
        model(example)
    return tuple(found.values())


def thin_out(module: nn.Module, output: Tensor) -> Tensor:
    """Outputs of a first layer that count as targets, (n, channels, positions)."""
    layer = layer_of(module)
    window = layer.window if layer is not None else None
    if window is None:
        return output[:, :, None]
    for axis, places in enumerate(grid(window, output), start=2):
        output = output.index_select(axis, torch.tensor(places, device=output.device))
    return output.flatten(2)


def grid(window: Window, output: Tensor) -> list[list[int]]:
    """Places along each axis of a convolution's output map that count as targets.

    As far apart as it takes to stay under `TARGETS` outputs, but never so far that a pixel that
    the layer reads is under no kernel; the last place of an axis always counts.
    """
    furthest = max(1, min(k // s for k, s in zip(window.kernel, window.stride, strict=True)))
    channels, *lengths = output.shape[1:]
    for step in range(1, furthest + 1):
        found = [sorted({*range(0, length, step), length - 1}) for length in lengths]
        if channels * math.prod(map(len, found)) <= TARGETS:
            break
    return found


def _pixel_pair(
    name: str, module: nn.Module, graph: ChannelGraph, example: Tensor, output: Tensor
) -> LayerPair:
    colours = example.shape[1]
    pixels = example[0, 0].numel()
    targets = thin_out(module, output)[0]
    owners = {
        group.name: np.repeat(member.channels(output.shape[1]), targets.shape[1])
        for group in graph.groups.values()
        for member in group.producers
        if member.module == name
    }
    return LayerPair(
        name=f"{PIXELS}--{name}",
        group=PIXELS,
        consumer=name,
        kind="pixels",
        features=np.arange(pixels)[:, None] + pixels * np.arange(colours),
        targets=targets.numel(),
        positions=1,
        owners=owners,
    )
