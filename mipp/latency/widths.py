"""One module at other widths: what it is called with in a network, cut, and cut input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph, ChannelGroup, LayerCost, Member
from mipp.graph.cutting import cut_channels
from mipp.hooked_mode import hooked
from mipp.inputs import Inputs, call
from mipp.layers import IntArray, Layer, layer_at

EDGES = (0, 1 / 4, 1 / 2, 3 / 4, 1)  # shares of a width where both sides vary; 0: one
FINE = (0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)  # where one side does


BLOCK = 16  # channels that kernels take at once


def typical(width: int, full: int) -> int:
    """The width in the middle of its block of channels; one and the full width as they are.

    A block costs what its last channel costs, whole or not, so that multiples are bargains; a
    line through the middles is right on average.
    """
    if width in (1, full) or full <= BLOCK:
        return width
    return min(width // BLOCK * BLOCK + BLOCK // 2, full)


@dataclass(frozen=True)
class Call:
    """What a module was called with, tensors without their content, and what it gave."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    elements: int  # of the output


@dataclass(frozen=True)
class Part:
    """One module of a network with its calls in one forward pass."""

    module: nn.Module
    cost: LayerCost
    calls: tuple[Call, ...]

    @property
    def layer(self) -> Layer:
        """The module's adapter."""
        return layer_at(self.module, "")

    def key(self) -> str:
        """Equal for modules that take equal time at equal widths."""
        shapes = [_shapes(value) for c in self.calls for value in (*c.args, *c.kwargs.values())]
        sides = (self.cost.in_features, self.cost.out_features)
        varies = (bool(self.cost.inputs), bool(self.cost.outputs))
        return f"{self.module!r} {shapes} {sides} {varies}"

    def grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Widths of the inputs and of the outputs to measure; one where nothing varies."""
        cost = self.cost
        shares = EDGES if cost.inputs and cost.outputs else FINE
        read, made = (units.shape[1] for units in self.units())
        inputs = _widths(cost.in_features, read, shares) if cost.inputs else (cost.in_features,)
        outputs = _widths(cost.out_features, made, shares) if cost.outputs else (cost.out_features,)
        return inputs, outputs

    def units(self) -> tuple[IntArray, IntArray]:
        """Features of each unit of the inputs and of the outputs, (units, block)."""
        inputs, outputs = self.layer.inputs.each(), self.layer.outputs.each()
        if self.cost.inputs and self.layer.role == "both":  # index j of every group is one
            return inputs.T, outputs.T
        return np.arange(self.cost.in_features)[:, None], outputs

    def cut(self, inputs: int, outputs: int) -> nn.Module:
        """A copy of the module of these widths."""
        groups, dropped = {}, {}
        of_inputs, of_outputs = self.units()
        for side, width, features in (("in", inputs, of_inputs), ("out", outputs, of_outputs)):
            member = (Member("", features),)
            reads, makes = ((), member) if side == "out" else (member, ())
            groups[side] = ChannelGroup(side, len(features), makes, (), reads)
            dropped[side] = np.arange(width // features.shape[1], len(features))
        module = cut_channels(self.module, groups, dropped)
        layer_at(module, "").alone()
        return module

    def inputs_at(self, inputs: int, outputs: int, device: torch.device) -> list[_Arguments]:
        """Arguments of every call for a module of these widths."""
        own = self.cost.in_features if self.cost.inputs else None
        found = []
        for made in self.calls:
            shape = list(made.args[0].shape)
            axis = self.layer.axis_of(made.args[0].shape)
            if own is not None:
                shape[axis] = shape[axis] * inputs // own
            elif self.cost.outputs and self.layer.role in ("carries", "both"):
                shape[axis] = shape[axis] * outputs // self.cost.out_features
            read = torch.empty(shape, dtype=made.args[0].dtype, device="meta")
            args = self.layer.with_input(made.args, read)
            kwargs = {key: _filled(value, device) for key, value in made.kwargs.items()}
            found.append(([_filled(value, device) for value in args], kwargs))
        return found


_Arguments = tuple[list[Any], dict[str, Any]]


def parts_of(model: nn.Module, graph: ChannelGraph, images: Inputs) -> dict[str, Part]:
    """Every module whose width some group changes, with what it is called with."""
    modules = dict(model.named_modules())
    costs = {
        cost.module: cost
        for cost in graph.costs
        if cost.module in modules and (cost.inputs or cost.outputs)
    }
    calls: dict[str, list[Call]] = {name: [] for name in costs}
    names = {modules[name]: name for name in costs}

    def watch(module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
        made = output if isinstance(output, Tensor) else output[0]
        emptied = {key: _emptied(value) for key, value in kwargs.items()}
        call = Call(tuple(_emptied(value) for value in args), emptied, made.numel())
        calls[names[module]].append(call)

    watching = (module.register_forward_hook(watch, with_kwargs=True) for module in names)
    with hooked(watching), evaluating(model), torch.inference_mode():
        call(model, images)
    return {
        name: Part(modules[name], cost, tuple(calls[name]))
        for name, cost in costs.items()
        if calls[name]
    }


def _widths(full: int, step: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    count = full // step
    widths = {typical(max(1, round(count * share)), count) for share in shares}
    return tuple(sorted(step * width for width in widths))


def _shapes(value: Any) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else repr(value)


def _emptied(value: Any) -> Any:
    return value.detach().to("meta") if isinstance(value, Tensor) else value


def _filled(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    content = 0.5 if value.is_floating_point() else 0
    return torch.full(value.shape, content, dtype=value.dtype, device=device)
