"""The weights that make a unit and those that read it, taken together and scaled together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.elimination import Alive
from mipp.criteria.shared.filters import weight_names
from mipp.criteria.shared.unit_gates import Tensors, parameters_of, tied_names
from mipp.graph import ChannelGroup, IntArray
from mipp.layers import layer_at
from mipp.selection.scores import GroupScores


class Slice(NamedTuple):
    """Where a group's units lie in one parameter: features (width, block) along an axis."""

    name: str
    axis: int
    features: IntArray

    def rows(self, weights: Tensors) -> Tensor:
        """The parameter by unit, (width, weights of a unit)."""
        weight = weights[self.name].movedim(self.axis, 0)
        index = torch.from_numpy(self.features).to(weight.device)
        return weight[index].flatten(1)

    def write(self, weights: Tensors, rows: Tensor) -> None:
        """Put rows in place of what `rows` gives."""
        weight = weights[self.name].movedim(self.axis, 0)
        index = torch.from_numpy(self.features).to(weight.device)
        weight[index] = rows.view(*index.shape, *weight.shape[1:])

    def scale(self, weights: Tensors, factors: Tensor) -> None:
        """Multiply each unit's part in place by its factor (width,)."""
        weight = weights[self.name]
        each = weight.new_ones(weight.shape[self.axis])
        index = torch.from_numpy(self.features).to(weight.device)
        each[index] = factors.to(weight)[:, None].expand(index.shape)
        weight.mul_(each.view([-1 if a == self.axis else 1 for a in range(weight.ndim)]))


def made_by(given: CriterionInput, group: ChannelGroup) -> list[Slice]:
    """The filters of the layers that make a group; a layer without weights has none."""
    names = weight_names(given.model)
    found = []
    for member in group.producers:
        layer = layer_at(given.model, member.module)
        if member.module in names and layer.filters is not None:
            axis = layer.outputs.tensors[layer.filters]
            found.append(Slice(names[member.module], axis, member.features))
    return _once(given, found)


def read_by(given: CriterionInput, group: ChannelGroup) -> list[Slice]:
    """The weights of the layers that read a group, those that are trained."""
    found = [
        Slice(f"{member.module}.{key}", axis, member.features)
        for member in group.consumers
        for key, axis in layer_at(given.model, member.module).inputs.tensors.items()
    ]
    trained = parameters_of(given.model)
    return _once(given, [one for one in found if one.name in trained])


def norms_of(given: CriterionInput, group: ChannelGroup) -> list[Slice]:
    """Scales and shifts of the batch norms that carry a group."""
    return [*scales_of(given, group), *_of_norms(given, group, "shift")]


def scales_of(given: CriterionInput, group: ChannelGroup) -> list[Slice]:
    """Scales of the batch norms that carry a group."""
    return _of_norms(given, group, "scale")


def _of_norms(
    given: CriterionInput, group: ChannelGroup, part: Literal["scale", "shift"]
) -> list[Slice]:
    found = []
    for member in group.passengers:
        statistics = layer_at(given.model, member.module).statistics
        value = None if statistics is None else getattr(statistics, part)
        for key, own in given.model.get_submodule(member.module).named_parameters(recurse=False):
            if own is value:
                found.append(Slice(f"{member.module}.{key}", 0, member.features))
    return _once(given, found)


def _once(given: CriterionInput, slices: list[Slice]) -> list[Slice]:
    """The slices by the first name of their parameter, those of a tied one but once."""
    tied, found = tied_names(given.model), {}
    for one in slices:
        name = tied.get(one.name, one.name)
        found[name, one.features.tobytes()] = one._replace(name=name)
    return list(found.values())


class Makers:
    """The weights that make each unit of a network, all groups of it."""

    def __init__(self, given: CriterionInput) -> None:
        self._widths = given.graph.widths
        groups = given.graph.groups.items()
        self.slices = {name: made_by(given, group) for name, group in groups}

    def magnitudes(self, weights: Tensors) -> GroupScores:
        """Sum of a unit's absolute weights, of coupled layers together."""
        scores = {}
        for name, slices in self.slices.items():
            scores[name] = np.zeros(self._widths[name])
            for one in slices:
                values = one.rows(weights).detach().double().abs().sum(1)
                scores[name] += values.cpu().numpy()
        return scores

    def scale(self, weights: Tensors, factors: Mapping[str, Tensor]) -> None:
        """Multiply what makes each unit in place by its factor, (width,) by group."""
        for name, values in factors.items():
            for one in self.slices[name]:
                one.scale(weights, values)


def over_mean(scores: GroupScores, alive: Alive | None = None) -> GroupScores:
    """Scores divided by the mean over their group, or over what is left of it."""
    parts = scores if alive is None else {name: v[alive[name]] for name, v in scores.items()}
    return {name: v / (parts[name].mean() or 1.0) for name, v in scores.items()}
