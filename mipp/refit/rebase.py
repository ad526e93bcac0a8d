"""Batch-norm of a refitted network, stated anew from what it normalises now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mipp.evaluation import evaluating
from mipp.graph.tied import sharing
from mipp.inputs import Inputs, call
from mipp.layers import Statistics, layer_of


@dataclass
class _Sums:
    """Of a batch-norm's inputs per channel, relative to the running mean it had; float64."""

    count: int = 0
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0

    def add(self, x: Tensor, center: Tensor) -> None:
        count = x.numel() // x.shape[1]
        others = [axis for axis in range(x.ndim) if axis != 1]
        variance, mean = torch.var_mean(x, dim=others, correction=0)
        moved = mean.double() - center.double()
        self.count += count
        self.first = self.first + count * moved
        self.second = self.second + count * (variance.double() + moved.square())


def rebase(model: nn.Module, batches: Iterable[Inputs]) -> None:
    """Give every batch-norm the statistics of its inputs, yet the outputs it had, in place.

    A refit fits the weights to the running statistics of the dense network. Training normalises by
    those of its batches instead, and would start from another, worse network. Scale and
    shift take up the difference of the two, exactly in real arithmetic. A batch-norm without
    a scale and a shift of its own, or without running statistics, is left as it is.
    """
    norms = _restatable(model)
    if not norms:
        return
    sums = {module: _Sums() for module in norms}

    def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sums[module].add(inputs[0], norms[module].mean)

    hooks = [module.register_forward_pre_hook(see) for module in norms]
    try:
        with evaluating(model), torch.no_grad():
            for inputs in batches:
                call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for module, seen in sums.items():
        if seen.count:
            _restate(norms[module], seen)


def _restatable(model: nn.Module) -> dict[nn.Module, Statistics]:
    shared = sharing(model)
    own = [module for name, module in model.named_modules() if name not in shared]
    layers = [layer for layer in map(layer_of, own) if layer is not None]
    found = {layer.module: layer.statistics for layer in layers}
    return {m: norm for m, norm in found.items() if norm is not None and norm.scale is not None}


@torch.no_grad()
def _restate(norm: Statistics, seen: _Sums) -> None:
    assert norm.scale is not None
    assert norm.shift is not None
    moved, squares = (
        torch.as_tensor(total / seen.count, device=norm.mean.device)
        for total in (seen.first, seen.second)
    )
    variance = (squares - moved.square()).clamp(min=0)
    old = norm.variance.double() + norm.eps
    norm.shift.add_(norm.scale * moved * old.rsqrt())
    norm.scale.mul_(((variance + norm.eps) / old).sqrt())
    norm.mean.add_(moved)
    norm.variance.copy_(variance)
