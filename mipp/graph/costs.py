"""Parameters and multiply-accumulates of each module, by the groups on its two sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from mipp.graph.channels import ChannelGroup, LayerCost
from mipp.graph.kinds import CONVS, LAYER_NORMS, TRANSPOSED
from mipp.graph.trail import Trail
from mipp.layers.attention import is_plain


def count_costs(
    modules: Mapping[str, nn.Module], trail: Trail, groups: Mapping[str, ChannelGroup]
) -> tuple[LayerCost, ...]:
    """Costs of every module with parameters that some group touches, and of all convs."""
    reads: dict[str, dict[str, int]] = {}
    makes: dict[str, dict[str, int]] = {}
    for name, group in groups.items():
        for member in group.consumers:
            reads.setdefault(member.module, {})[name] = member.features.shape[1]
        for member in (*group.producers, *group.passengers):
            makes.setdefault(member.module, {})[name] = member.features.shape[1]
    costs = []
    for name in trail.calls:
        module = modules[name]
        if isinstance(module, (*CONVS, nn.Linear)):
            outputs, inputs = module.weight.shape[:2]
            if isinstance(module, CONVS) and module.groups > 1:
                inputs = 1
            per_output = 1 if module.bias is not None else 0
            weights = module.weight.numel()
        elif is_plain(module):
            assert isinstance(module, nn.MultiheadAttention)
            outputs, inputs = module.in_proj_weight.shape
            per_output = 1 if module.in_proj_bias is not None else 0
            weights = module.in_proj_weight.numel()
        elif name in makes and _norm_width(module) > 1:
            outputs, inputs, weights = _norm_width(module), 1, 0
            per_output = sum(p.numel() for p in module.parameters()) // outputs
        elif isinstance(module, TRANSPOSED):  # never cut: its cost is a constant
            outputs, inputs, weights, per_output = 1, 1, 0, 0
        else:
            continue
        costs.append(
            LayerCost(
                module=name,
                weights=weights,
                per_output=per_output,
                macs=trail.macs.get(name, 0),
                in_features=inputs,
                out_features=outputs,
                inputs=reads.get(name, {}),
                outputs=makes.get(name, {}),
            )
        )
    return (*costs, *_bare_costs(modules[""], groups))


def _bare_costs(model: nn.Module, groups: Mapping[str, ChannelGroup]) -> Iterator[LayerCost]:
    for group in groups.values():
        for bare in group.parameters:
            shape = model.get_parameter(bare.module).shape
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


def _norm_width(module: nn.Module) -> int:
    """Channels with parameters of their own."""
    if isinstance(module, LAYER_NORMS):
        return module.normalized_shape[0]
    return int(getattr(module, "num_features", 0))
