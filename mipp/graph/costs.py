"""Parameters and multiply-accumulates of each module, by the groups on its two sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import nn

from mipp.graph.channels import REST, ChannelGroup, LayerCost
from mipp.graph.trail import Trail
from mipp.layers import Cost, Layer, layer_of


def count_costs(
    modules: Mapping[str, nn.Module],
    trail: Trail,
    macs: Mapping[str, int],
    groups: Mapping[str, ChannelGroup],
) -> tuple[LayerCost, ...]:
    """Costs of every module with parameters that some group touches, and of all convs.

    Parameters
    ----------
    macs : of the layers, each of all its calls.
    """
    reads: dict[str, dict[str, int]] = {}
    makes: dict[str, dict[str, int]] = {}
    for name, group in groups.items():
        for member in group.readers:
            reads.setdefault(member.module, {})[name] = member.features.shape[1]
        for member in (*group.producers, *group.passengers):
            makes.setdefault(member.module, {})[name] = member.features.shape[1]
    costs, counted = [], set[nn.Parameter]()
    for name in dict.fromkeys((*trail.calls, *reads, *makes)):
        layer = layer_of(modules[name])
        if layer is None or not _counts(layer, name in makes):
            continue
        cost, multiplied = _once(layer, counted), macs.get(name, 0)
        if name in reads:  # also of a grouped convolution, where its sides go apart
            cost = replace(cost, in_features=layer.inputs.features)
        grows = round(multiplied * cost.part)
        if multiplied > grows:
            costs.append(_constant(name, multiplied - grows))
        costs.append(
            LayerCost(
                module=name,
                weights=cost.weights,
                per_output=cost.per_output,
                macs=grows,
                in_features=cost.in_features,
                out_features=cost.out_features,
                inputs=reads.get(name, {}),
                outputs=makes.get(name, {}),
            )
        )
    return (*costs, *_bare_costs(modules[""], groups))


def _once(layer: Layer, counted: set[nn.Parameter]) -> Cost:
    """A layer's cost without the parameters that it shares with one that was counted before."""
    cost, own = layer.cost, dict(layer.module.named_parameters(recurse=False))
    again = {name: parameter for name, parameter in own.items() if parameter in counted}
    counted.update(own.values())
    weights = 0 if layer.filters in again else cost.weights
    rest = sum(parameter.numel() for name, parameter in again.items() if name != layer.filters)
    of_each = rest // max(layer.outputs.features, 1)  # a layer may have no outputs
    return replace(cost, weights=weights, per_output=cost.per_output - of_each)


def _constant(module: str, macs: int) -> LayerCost:
    """What a module multiplies however many features it reads."""
    return LayerCost(f"{module}{REST}", 0, 0, macs, 1, 1, {}, {})


def _bare_costs(model: nn.Module, groups: Mapping[str, ChannelGroup]) -> Iterator[LayerCost]:
    parameters = dict(model.named_parameters())
    for group in groups.values():
        for bare in group.parameters:
            if bare.module not in parameters:  # a buffer
                continue
            shape = parameters[bare.module].shape
            outputs = shape[bare.axis]
            yield LayerCost(
                module=bare.module,
                weights=0,
                per_output=shape.numel() // outputs,
                macs=0,
                in_features=1,
                out_features=outputs,
                inputs={},
                outputs={group.name: bare.features.shape[1]},
            )


def _counts(layer: Layer, in_a_group: bool) -> bool:
    """Whether a layer has a cost: one that carries channels only where some of them can go."""
    if layer.role == "carries":
        return in_a_group
    if layer.role == "fixed":
        return True
    own = layer.filters is not None or any(True for _ in layer.module.parameters(recurse=False))
    return layer.role != "parts" and own
