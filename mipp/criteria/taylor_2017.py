"""First-order Taylor expansion on feature maps (Molchanov et al. 2017, arXiv:1611.06440)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import mean_over_images
from mipp.criteria.shared.unit_gates import differentiable
from mipp.graph import ChannelGraph
from mipp.inputs import Inputs, call, count
from mipp.layers import Layer, layer_at
from mipp.selection.scores import GroupScores


def score_taylor_2017(given: CriterionInput) -> GroupScores:
    """Mean over images of |feature map . gradient|, divided by the l2 norm over the group.

    The map is what layers read, after the norm and the nonlinearity; products are summed over
    its positions and, of a group that several layers read, over these.

    Departs: the mean over positions is a sum, the same
    after the division; units do not leave a few at a time with training between.
    """
    model, groups = given.model, given.graph.groups
    like = next(model.parameters())

    def sums(inputs: Inputs, labels: Tensor) -> Sequence[Tensor]:
        gates = {
            name: like.new_ones(count(inputs), width, requires_grad=True)
            for name, width in given.graph.widths.items()
        }
        with _gated_reading(model, given.graph, gates):
            loss = given.summed_loss(call(model, inputs), labels)
        slopes = torch.autograd.grad(loss, list(gates.values()), materialize_grads=True)
        return [slope.double().abs().sum(0) for slope in slopes]

    with differentiable(model):
        means = mean_over_images(given, sums)
    return {
        name: (mean / mean.norm().clamp_min(torch.finfo(torch.float64).tiny)).cpu().numpy()
        for name, mean in zip(groups, means, strict=True)
    }


@contextmanager
def _gated_reading(
    model: nn.Module, graph: ChannelGraph, gates: Mapping[str, Tensor]
) -> Iterator[None]:
    """Within the block, every image has gates (n, width) of its own on what layers read."""
    handles = []
    for name, group in graph.groups.items():
        for member in group.consumers:
            features = torch.from_numpy(member.features)
            layer = layer_at(model, member.module)
            hook = partial(_gate_inputs, layer=layer, gates=gates[name], features=features)
            handles.append(layer.module.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
