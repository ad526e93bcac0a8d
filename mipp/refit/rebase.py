"""Batch-norm of a refitted network, stated anew from what it normalises now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call


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
    a scale and a shift, or without running statistics, is left as it is.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and _restatable(m)]
    if not norms:
        return
    sums = {norm: _Sums() for norm in norms}

    def see(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        sums[norm].add(inputs[0], _running(norm)[0])

    hooks = [norm.register_forward_pre_hook(see) for norm in norms]
    try:
        with evaluating(model), torch.no_grad():
            for inputs in batches:
                call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for norm, seen in sums.items():
        if seen.count:
            _restate(norm, seen)


def _restatable(norm: _BatchNorm) -> bool:
    return norm.affine and norm.running_mean is not None


def _running(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


@torch.no_grad()
def _restate(norm: _BatchNorm, seen: _Sums) -> None:
    running_mean, running_variance = _running(norm)
    moved = torch.as_tensor(seen.first / seen.count)
    variance = (torch.as_tensor(seen.second / seen.count) - moved.square()).clamp(min=0)
    old = running_variance.double() + norm.eps
    norm.bias.add_(norm.weight * moved * old.rsqrt())
    norm.weight.mul_(((variance + norm.eps) / old).sqrt())
    running_mean.add_(moved)
    running_variance.copy_(variance)
