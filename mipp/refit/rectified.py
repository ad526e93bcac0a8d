"""Layers of which a ReLU passes on only the positive outputs, and what that leaves free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mipp.evaluation import evaluating
from mipp.hooked_mode import HookedMode
from mipp.inputs import Inputs, call, tensors_in
from mipp.layers import Statistics
from mipp.refit.least_squares import Rows
from mipp.refit.watcher import is_plain_sum

RECTIFIERS = ("relu", "relu_")
SILENT = ("__get__", "size", "dim", "numel", "is_floating_point", "stride", "is_contiguous")
SMALL = 0.01  # a batch-norm's slope below this share of their root mean square makes up for nothing


def rectified_layers(
    model: nn.Module, layers: Iterable[str], norm_after: Mapping[str, str], example: Inputs
) -> set[str]:
    """Layers whose output a ReLU alone reads: after batch-norm and a sum, where they follow.

    Parameters
    ----------
    norm_after : layer -> the batch-norm that reads its output.
    example : inputs of any number.
    """
    reader = _Reader(model, layers, norm_after)
    with evaluating(model), torch.no_grad(), reader:
        output = call(model, example)
    reader.spoil(tensors_in(output))
    return reader.rectified - reader.spoilt


class _Reader(HookedMode):
    """Knows of each tensor which layers' outputs it is, up to the first function that reads it."""

    def __init__(
        self, model: nn.Module, layers: Iterable[str], norm_after: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.rectified: set[str] = set()
        self.spoilt: set[str] = set()
        self._model, self._layers, self._norm_after = model, list(layers), norm_after
        self._made: dict[int, tuple[set[str], Tensor]] = {}  # the tensor is kept alive

    def hooks(self) -> Iterator[Any]:
        for name in self._layers:
            source = self._model.get_submodule(self._norm_after.get(name, name))
            yield source.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in tensors_in(output):
                self._made[id(tensor)] = ({name}, tensor)

        return hook

    def spoil(self, tensors: Iterable[Tensor]) -> None:
        """Something else than a ReLU reads these."""
        for tensor in tensors:
            self.spoilt |= self._made.get(id(tensor), (set(), tensor))[0]

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        read = [t for t in tensors_in((args, kwargs or {})) if id(t) in self._made]
        makers = {layer for tensor in read for layer in self._made[id(tensor)][0]}
        output = function(*args, **(kwargs or {}))
        if not read or name in SILENT:
            return output
        if name in RECTIFIERS:
            self.rectified |= makers
        elif is_plain_sum(function, args, kwargs):
            self._made[id(output)] = (makers, output)
            return output
        else:
            self.spoil(read)
        if isinstance(output, Tensor):  # in place, the same tensor is now something else
            self._made.pop(id(output), None)
        return output


def rows_to_fit(
    x: Tensor,
    output: Tensor,
    norm: Statistics | None,
    sides: tuple[Tensor, Tensor] | None,
    *,
    rectified: bool,
) -> Rows:
    """What a layer should put out for some inputs, and what would do as well.

    What the dense network passes on is to come out, sum and batch-norm included; where its ReLU
    passes nothing on, every output that leaves it so will do.

    Parameters
    ----------
    x : rows of the layer's inputs in the pruned network.
    output : what the dense network's layer puts out, (n, m).
    norm : of the batch-norm that follows the layer in the pruned network, as of the dense one.
    sides : of a sum that follows, the other side in the dense and in the pruned network.
    rectified : whether a ReLU alone reads what comes out.
    """
    slope, zero, small = _affine(norm, output)
    now = torch.zeros_like(output)
    wanted = output
    if sides is not None:
        then, now = sides
        wanted = output + torch.where(small, 0.0, (then - now) / slope)
    if not rectified:
        return Rows(x, wanted)
    silent = ~small & (slope * (output - zero) + (0.0 if sides is None else sides[0]) <= 0)
    edge = zero - now / slope  # where the pruned network's ReLU begins to pass on
    rising = slope > 0
    low = torch.where(silent, torch.where(rising, -torch.inf, edge), wanted)
    high = torch.where(silent, torch.where(rising, edge, torch.inf), wanted)
    return Rows(x, wanted, low, high)


def _affine(norm: Statistics | None, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slope of a batch-norm, the input at which it is zero, and where the slope is too small."""
    if norm is None:
        one = output.new_ones(output.shape[1])
        return one, torch.zeros_like(one), torch.zeros_like(one, dtype=torch.bool)
    slope = (norm.variance + norm.eps).rsqrt()
    slope = slope if norm.scale is None else slope * norm.scale
    small = slope.abs() < SMALL * slope.square().mean().sqrt()
    slope = slope.masked_fill(small, 1.0)
    shift = 0.0 if norm.shift is None else norm.shift / slope
    return slope, norm.mean - shift, small
