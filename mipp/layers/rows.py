"""Sampled rows of maps and of tokens: what lies at some positions, and under a kernel there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.layers.answers import Window

Pixels = tuple[Tensor, Tensor]  # flat indices, and whether each is inside


def token_rows(x: Tensor, at: Tensor) -> Tensor:
    """Tokens (images, ..., features) at flat positions (images, rows), one below the other."""
    return x.reshape(x.shape[0], -1, x.shape[-1])[_image(at), at].flatten(0, 1)


def map_rows(y: Tensor, at: Tensor) -> Tensor:
    """Channels of maps (images, channels, *map) at flat positions (images, rows)."""
    return y.movedim(1, -1)[(_image(at), *places(at, y.shape[2:]))].flatten(0, 1)


def places(at: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The index along each axis of a map of these sizes for flat positions."""
    found = []
    for size in reversed(sizes):
        found.append(at % size)
        at = at // size
    return found[::-1]


def kernel_pixels(at: Tensor, x: Tensor, window: Window, made: torch.Size) -> Pixels:
    """Flat pixel of x under each tap of the kernel, and whether it is inside of x.

    What is not inside lies at the nearest pixel that is; both are (images, rows, size).

    Parameters
    ----------
    at : flat positions in the output map.
    made : shape of the output, (images, channels, *map).
    """
    taken = []
    for axis, first in enumerate(places(at, made[2:])):
        taps = torch.arange(window.kernel[axis], device=at.device) * window.dilation[axis]
        place = (first * window.stride[axis])[:, :, None] + taps - window.padding[axis]
        last = x.shape[2 + axis] - 1
        taken.append((place.clamp(0, last), (place >= 0) & (place <= last)))
    return _flat(taken, x)


def spread_pixels(at: Tensor, x: Tensor, window: Window, made: torch.Size) -> Pixels:
    """The same of a transposed convolution: the pixel that each tap of the kernel spreads there.

    With a stride, most taps come from between two pixels, which is outside.
    """
    taken = []
    for axis, first in enumerate(places(at, made[2:])):
        taps = torch.arange(window.kernel[axis], device=at.device) * window.dilation[axis]
        strided = first[:, :, None] + window.padding[axis] - taps
        place = strided.div(window.stride[axis], rounding_mode="floor")
        last = x.shape[2 + axis] - 1
        inside = (place * window.stride[axis] == strided) & (place >= 0) & (place <= last)
        taken.append((place.clamp(0, last), inside))
    return _flat(taken, x)


def _flat(taken: list[Pixels], x: Tensor) -> Pixels:
    """Pixels and whether they are inside by axis of the map, for all axes at once."""
    pixels, within = taken[0]
    for size, (place, inside) in zip(x.shape[3:], taken[1:], strict=True):
        pixels = (pixels[..., :, None] * size + place[..., None, :]).flatten(2)
        within = (within[..., :, None] & inside[..., None, :]).flatten(2)
    return pixels, within


def kernel_rows(x: Tensor, pixels: Tensor, inside: Tensor) -> Tensor:
    """Rows (images * rows, channels, size) of maps at the pixels of `kernel_pixels`, zero outside.

    Only what lies under a sampled kernel is read: maps are large, samples few.
    """
    images, rows, size = pixels.shape
    spread = pixels.reshape(images, 1, rows * size).expand(-1, x.shape[1], -1)
    found = x.flatten(2).gather(2, spread).view(images, x.shape[1], rows, size)
    found = found.transpose(1, 2).contiguous()  # (images, rows, channels, kernel size)
    if not bool(inside.all()):
        found.mul_(inside[:, :, None].to(found.dtype))
    return found.flatten(0, 1)


def _image(at: Tensor) -> Tensor:
    return torch.arange(len(at), device=at.device)[:, None]
