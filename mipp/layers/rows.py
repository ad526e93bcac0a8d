"""Sampled rows of maps and of tokens: what lies at some positions, and under a kernel there."""

from __future__ import annotations

import torch
from torch import Tensor

from mipp.layers.answers import Window


def token_rows(x: Tensor, at: Tensor) -> Tensor:
    """Tokens (images, ..., features) at flat positions (images, rows), one below the other."""
    return x.reshape(x.shape[0], -1, x.shape[-1])[_image(at), at].flatten(0, 1)


def map_rows(y: Tensor, at: Tensor) -> Tensor:
    """Channels of maps (images, channels, height, width) at flat positions (images, rows)."""
    row, column = at // y.shape[3], at % y.shape[3]
    return y.permute(0, 2, 3, 1)[_image(at), row, column].flatten(0, 1)


def kernel_pixels(at: Tensor, x: Tensor, window: Window, width: int) -> tuple[Tensor, Tensor]:
    """Flat pixel of x under each tap of the kernel, (images, rows, size), and whether it is
    inside of x; what is not lies at the nearest pixel inside.

    Parameters
    ----------
    at : flat positions in the output map.
    width : of the output map.
    """
    places, inside = [], []
    for axis, first in ((0, at // width), (1, at % width)):
        taps = torch.arange(window.kernel[axis], device=at.device) * window.dilation[axis]
        place = (first * window.stride[axis])[:, :, None] + taps - window.padding[axis]
        last = x.shape[2 + axis] - 1
        inside.append((place >= 0) & (place <= last))
        places.append(place.clamp(0, last))
    down, across = places
    pixels = down[..., :, None] * x.shape[3] + across[..., None, :]
    within = inside[0][..., :, None] & inside[1][..., None, :]
    return pixels.flatten(2), within.flatten(2)


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
