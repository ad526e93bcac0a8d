"""A gate per unit and image on what layers read, and the loss's slopes by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput
from mipp.graph import ChannelGraph
from mipp.hooked_mode import hooked
from mipp.inputs import Inputs, call, count
from mipp.layers import Layer, layer_at


def slopes_by_image(given: CriterionInput, inputs: Inputs, labels: Tensor) -> list[Tensor]:
    """Derivative of every image's loss by the gate of every unit, (images, width) by group."""
    like = next(given.model.parameters())
    gates = {
        name: like.new_ones(count(inputs), width, requires_grad=True)
        for name, width in given.graph.widths.items()
    }
    with _gated_reading(given.model, given.graph, gates):
        loss = given.summed_loss(call(given.model, inputs), labels)
    slopes = torch.autograd.grad(loss, list(gates.values()), materialize_grads=True)
    return [slope.double() for slope in slopes]


@contextmanager
def _gated_reading(
    model: nn.Module, graph: ChannelGraph, gates: Mapping[str, Tensor]
) -> Iterator[None]:
    """Within the block, every image has gates (n, width) of its own on what layers read."""

    def gating() -> Iterator[Any]:
        for name, group in graph.groups.items():
            for member in group.consumers:
                features = torch.from_numpy(member.features)
                layer = layer_at(model, member.module)
                hook = partial(_gate_inputs, layer=layer, gates=gates[name], features=features)
                yield layer.module.register_forward_pre_hook(hook)

    with hooked(gating()):
        yield


def _gate_inputs(
    module: nn.Module, arguments: tuple[Any, ...], layer: Layer, gates: Tensor, features: Tensor
) -> tuple[Any, ...]:
    x = arguments[0]
    axis = layer.inputs.axis % x.ndim
    values = gates.repeat_interleave(features.shape[1], 1)
    factor = gates.new_ones(len(gates), x.shape[axis])
    factor = factor.index_copy(1, features.flatten().to(gates.device), values)
    shape = [1] * x.ndim
    shape[layer.images_axis(x)], shape[axis] = factor.shape
    return layer.with_input(arguments, x * factor.view(shape))
