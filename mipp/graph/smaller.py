"""A smaller example for proofs: what a network does with channels, it does at any size of map.

224 x 224 pixels    64 x 64, if the same operators run in the same modules, and no layer that makes
                    a map of several positions is left with fewer than four
"""

from __future__ import annotations

from functools import partial
from math import ceil

from torch import Tensor, nn

from mipp.graph.passes import Followed, runs_alike
from mipp.graph.trail import Trail, run_once
from mipp.inputs import Inputs, each, tensors_of

SHARES = (4, 2)  # of the sides' length, the smaller ones first
SIDE = 32  # what sides are multiples of, as many networks ask for
FEWEST = 4  # positions in a map: one alone hides what mixes several


def smaller_example(model: nn.Module, example: Inputs, trail: Trail, followed: Followed) -> Inputs:
    """The example, or one with smaller images on which the network does the same.

    Parameters
    ----------
    trail, followed : what the network did on the example.
    """
    for share in SHARES:
        small = each(example, partial(_cropped, share=share))
        same = zip(tensors_of(small), tensors_of(example), strict=True)
        if all(one.shape == other.shape for one, other in same):
            continue
        if runs_alike(model, followed, small) and _keeps_maps(trail, run_once(model, small)):
            return small
    return example


def _cropped(tensor: Tensor, share: int) -> Tensor:
    """A corner of images (n, c, h, w); anything else as it is."""
    if tensor.ndim != 4 or not tensor.is_floating_point():
        return tensor
    height, width = (SIDE * ceil(side / share / SIDE) for side in tensor.shape[2:])
    return tensor[:, :, :height, :width]


def _keeps_maps(trail: Trail, small: Trail) -> bool:
    least = {name: min(FEWEST, count) for name, count in trail.positions.items()}
    return all(small.positions[name] >= count for name, count in least.items())
