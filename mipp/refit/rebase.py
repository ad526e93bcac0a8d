"""Batch-norm of a refitted network, stated anew from what it normalises now."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mipp.graph.tied import sharing
from mipp.hooked_mode import hooked
from mipp.layers import Statistics, layer_of

FAR = 1e3  # a squared mean, in variances: rounding of squares in float32 takes 1e-4 of them then


@dataclass
class _Sums:
    """Of a batch-norm's inputs per channel, float64."""

    count: int = 0
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0  # of squares

    def add(self, other: _Sums) -> None:
        self.count += other.count
        self.first = self.first + other.first
        self.second = self.second + other.second


class NormInputs:
    """Mean and variance of what every batch-norm of a network reads, while the network runs.

    A refit fits the weights to the running statistics of the dense network. Training normalises by
    those of its batches instead, and would start from another, worse network. `rebase` gives each
    batch-norm the statistics of its inputs, yet the outputs it had, in place: scale and shift take
    up the difference of the two, exactly in real arithmetic. A batch-norm without a scale and a
    shift of its own, or without running statistics, is left as it is.

    Example
    -------
    >>> model = nn.Sequential(nn.BatchNorm1d(1)).eval()
    >>> inputs = NormInputs(model)
    >>> with inputs.seen() as seen:
    ...     _ = model(torch.tensor([[1.0], [3.0]]))
    >>> inputs.add(seen)
    >>> inputs.rebase()
    >>> model[0].running_mean.item(), round(model[0].running_var.item(), 4)
    (2.0, 1.0)
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = _restatable(model)
        self._sums = {module: _Sums() for module in self._norms}

    @contextmanager
    def seen(self) -> Iterator[dict[nn.Module, _Sums]]:
        """What batch-norms read within the block, in this thread, to be added where it counts."""
        thread, seen = threading.get_ident(), dict[nn.Module, _Sums]()

        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if threading.get_ident() == thread:
                seen.setdefault(module, _Sums()).add(_sums_of(inputs[0]))

        with hooked(module.register_forward_pre_hook(see) for module in self._norms):
            yield seen

    def add(self, seen: dict[nn.Module, _Sums]) -> None:
        """Count what was seen."""
        for module, sums in seen.items():
            self._sums[module].add(sums)

    def rebase(self) -> None:
        """State every batch-norm anew that was seen."""
        for module, sums in self._sums.items():
            if sums.count:
                _restate(self._norms[module], sums)


def see_instead(seen: dict[nn.Module, _Sums], module: nn.Module, x: Tensor) -> None:
    """A batch-norm that ran once reads other inputs than it did."""
    if module in seen:
        seen[module] = _sums_of(x)


def _sums_of(x: Tensor) -> _Sums:
    """Sums over all axes but the channels'; twice as fast as `torch.var_mean` over a map."""
    count = x.numel() // max(x.shape[1], 1)
    others = [axis for axis in range(x.ndim) if axis != 1]
    mean = x.mean(others).double()
    second = torch.linalg.vector_norm(x, dim=others).double().square() / max(count, 1)
    if bool((second > FAR * (second - mean.square())).any()):
        variance, _ = torch.var_mean(x, dim=others, correction=0)
        second = variance.double() + mean.square()
    return _Sums(count, count * mean, count * second)


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
    mean, squares = (
        torch.as_tensor(total / seen.count, device=norm.mean.device)
        for total in (seen.first, seen.second)
    )
    variance = (squares - mean.square()).clamp(min=0)
    moved, old = mean - norm.mean.double(), norm.variance.double() + norm.eps
    norm.shift.add_(norm.scale * moved * old.rsqrt())
    norm.scale.mul_(((variance + norm.eps) / old).sqrt())
    norm.mean.add_(moved)
    norm.variance.copy_(variance)
