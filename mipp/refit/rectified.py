"""What a ReLU leaves free of the layers whose positive outputs alone it passes on."""

from __future__ import annotations

import torch
from torch import Tensor

from mipp.layers import Statistics
from mipp.refit.least_squares import Rows

SMALL = 0.01  # a batch-norm's slope up to this share of their root mean square makes up for nothing


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
    small = slope.abs() <= SMALL * slope.square().mean().sqrt()  # all of them, if all are zero
    slope = slope.masked_fill(small, 1.0)
    shift = 0.0 if norm.shift is None else norm.shift / slope
    return slope, norm.mean - shift, small
