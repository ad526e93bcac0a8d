"""What a layer makes of its weights: x W + b, more than that, or something else.

F.conv2d(x, 0.1 * W, b)        x (0.1 W) + b: fitted, and ten times what was found is written
F.linear(x, W + down @ up)     x W + rest: W is fitted to what the rest leaves
F.conv2d(x, W).relu()          nothing that weights could be solved for: left as it is
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mipp.layers import Layer, LinearMap

ROWS = 256  # that the outputs are compared on
NEAR = 1e-2  # of the outputs' standard deviation: less is not seen in what is fitted
DIGITS = 64.0  # rounding errors that a sum of products may have gathered


@dataclass(frozen=True)
class LinearPart:
    """A layer's outputs as rest + x (scale * weight) + gain * bias, whatever its weights are.

    Of a layer that computes its map and nothing else, only the layer is there.

    Parameters
    ----------
    scale, gain : of each output, (outputs,).
    rests : whether there is more than the map; rows of it by `rest`.
    """

    layer: Layer
    scale: Tensor | None = None
    gain: Tensor | None = None
    rests: bool = False

    @property
    def plain(self) -> bool:
        """Whether the layer computes its own map."""
        return self.scale is None

    @property
    def map(self) -> LinearMap | None:
        """The linear map that the layer really computes."""
        linear = self.layer.map
        if linear is None or self.scale is None:
            return linear
        bias = None if linear.bias is None or self.gain is None else linear.bias * self.gain
        return replace(linear, weight=linear.weight * self.scale[:, None, None], bias=bias)

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        """Write such weights that this is the map."""
        if self.scale is None:
            self.layer.set_map(weight, bias)
        else:
            gain = 1.0 if self.gain is None else self.gain
            shape = (-1, *[1] * (weight.ndim - 1))
            self.layer.set_map(weight / self.scale.view(shape), bias / gain)

    def rest(self, outputs: Callable[[], Tensor]) -> Tensor | None:
        """Rows of what comes out beside the map.

        Parameters
        ----------
        outputs : runs the layer, with the weights that it has by then, and takes rows.
        """
        return _with(self.layer, 0.0, 0.0, outputs) if self.rests else None


def linear_part(
    layer: Layer, x: Tensor, y: Tensor, outputs: Callable[[], Tensor]
) -> LinearPart | None:
    """What a layer makes of its weights, from sampled rows; None where it is no linear map.

    Its map is compared with what comes out. Where the two differ, the layer runs without weights,
    without a bias, and with a bias of 1, so that each part of it is seen apart.

    Parameters
    ----------
    x, y : rows of its inputs (n, features, block) and of what it makes of them (n, outputs).
    outputs : as for `LinearPart.rest`; gives all rows.
    """
    linear = layer.map
    assert linear is not None
    if x.shape[1:] != linear.weight.shape[1:] or y.shape[1] != len(linear.weight):
        return None
    few = slice(None, None, -(-len(x) // ROWS))
    weight = _wide(linear.weight.flatten(1).T)
    x, y = _wide(x[few].flatten(1)), _wide(y[few])
    made = x @ weight
    largest = (x.abs() @ weight.abs()).amax(0) + y.abs().amax(0)
    bound = DIGITS * torch.finfo(linear.weight.dtype).eps * largest
    if _same(y, made if linear.bias is None else made + linear.bias, bound):
        return LinearPart(layer)
    try:
        return _apart(layer, made, bound, y, lambda: _wide(outputs()[few]))
    except (RuntimeError, TypeError, ValueError):  # it takes more than an input, or other weights
        return None


def _apart(
    layer: Layer, made: Tensor, bound: Tensor, y: Tensor, outputs: Callable[[], Tensor]
) -> LinearPart | None:
    linear = layer.map
    assert linear is not None
    rest = _with(layer, 0.0, 0.0, outputs)
    alone = _with(layer, 1.0, 0.0, outputs) - rest
    scale = (alone * made).sum(0) / made.square().sum(0).clamp(min=1e-300)
    if not bool((scale != 0).all()) or not _same(alone, made * scale, bound * scale.abs()):
        return None
    gain, whole = None, rest + made * scale
    if linear.bias is not None:
        moved = _with(layer, 0.0, 1.0, outputs) - rest
        gain = moved.mean(0)
        if not bool((gain != 0).all()) or not _same(moved, gain.expand_as(moved), bound):
            return None
        whole = whole + gain * linear.bias
    if not _same(y, whole, bound):
        return None
    scale = scale.to(linear.weight.dtype)
    rests = not _same(rest, torch.zeros_like(rest), bound)
    return LinearPart(layer, scale, None if gain is None else gain.to(scale.dtype), rests)


def _with(layer: Layer, weight: float, bias: float, outputs: Callable[[], Tensor]) -> Tensor:
    """Rows of the outputs with a layer's own weights times a number, and another as its bias."""
    module, linear = layer.module, layer.map
    assert linear is not None
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    try:
        flat = linear.weight.flatten(1) * weight
        layer.set_map(flat, torch.full_like(flat[:, 0], bias))
        return outputs()
    finally:
        module.load_state_dict(state)


def _same(one: Tensor, other: Tensor, bound: Tensor) -> bool:
    """Whether outputs agree, as far as matters or as far as products of their size can tell."""
    apart, spread = one - other, one - one.mean(0)
    near = apart.square().mean() <= (NEAR * spread).square().mean()
    return bool(near) or bool((apart.abs() <= bound).all())


def _wide(tensor: Tensor) -> Tensor:
    """The same numbers, in a precision that sums them well."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
