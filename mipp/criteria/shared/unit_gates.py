"""A gate per unit that multiplies the unit wherever a layer reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.elimination import Alive
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph
from mipp.inputs import Inputs, beside
from mipp.layers import layer_at

Gates = Mapping[str, Tensor]  # group -> (width,); 1 leaves a unit as it is, 0 removes it
Tensors = Mapping[str, Tensor]  # full name -> parameter or buffer


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Within the block, the network runs in eval mode and can be differentiated twice."""
    with evaluating(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters by full name; one that several modules have bears the name of each."""
    return {
        f"{name}.{key}" if name else key: parameter
        for name, module in model.named_modules()
        for key, parameter in module.named_parameters(recurse=False)
    }


def tied_names(model: nn.Module) -> dict[str, str]:
    """Further names of parameters that several modules have -> the first one."""
    first: dict[int, str] = {}
    named = parameters_of(model).items()
    owners = {name: first.setdefault(id(parameter), name) for name, parameter in named}
    return {name: owner for name, owner in owners.items() if name != owner}


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by full name, apart from the caller's gradients."""
    named = (*parameters_of(model).items(), *model.named_buffers())
    return {name: tensor.detach() for name, tensor in named}


def run_with(model: nn.Module, tensors: Tensors, inputs: Inputs) -> Any:
    """Outputs with these parameters and buffers in place of the model's own."""
    run = partial(functional_call, model, dict(tensors), tie_weights=False)
    with beside(inputs):
        if isinstance(inputs, Tensor):
            return run((inputs,))
        if isinstance(inputs, Mapping):
            return run((), dict(inputs))
        return run(inputs)


def open_gates(given: CriterionInput) -> dict[str, Tensor]:
    """Gates of 1 that can be differentiated by."""
    alive = {name: np.ones(width, bool) for name, width in given.graph.widths.items()}
    return {name: gate.requires_grad_(True) for name, gate in gates_of(given, alive).items()}


def gates_of(given: CriterionInput, alive: Alive) -> dict[str, Tensor]:
    """Gates of 1 and 0, in the type and on the device of the network's weights."""
    like = next(given.model.parameters())
    return {name: torch.from_numpy(present).to(like) for name, present in alive.items()}


def gated(model: nn.Module, graph: ChannelGraph, gates: Gates, tensors: Tensors) -> Tensors:
    """The tensors with every weight that reads a unit multiplied by the unit's gate.

    A unit with gate 0 is then gone as cutting removes it: with its bias and what its batch norm
    adds, and from a residual stream as a whole. Where layers between are homogeneous, such as
    ReLU and pooling, it is the same as to multiply the weights and biases that make the unit.
    """
    factors: dict[str, Tensor] = {}
    axes: dict[str, int] = {}  # of each weight, along which the features lie that it reads
    for name, group in graph.groups.items():
        for member in group.consumers:
            side = layer_at(model, member.module).inputs
            features = torch.from_numpy(member.features).to(gates[name].device)
            values = gates[name].repeat_interleave(features.shape[1])
            for key, axis in side.tensors.items():
                weight = f"{member.module}.{key}"
                axes[weight] = axis
                if weight not in factors:
                    factors[weight] = gates[name].new_ones(side.features)
                factors[weight] = factors[weight].index_copy(0, features.flatten(), values)
    return dict(tensors) | {
        weight: tensors[weight] * _along(factor, axes[weight], tensors[weight].ndim)
        for weight, factor in factors.items()
    }


def _along(factor: Tensor, axis: int, axes: int) -> Tensor:
    """Factors (features,) that multiply a tensor of so many axes along one of them."""
    return factor.view([-1 if a == axis else 1 for a in range(axes)])
