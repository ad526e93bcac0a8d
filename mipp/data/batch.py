"""Batches of pixels as a network is given them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normalise(
    pixels: Tensor, mean: Sequence[float], std: Sequence[float], *, as_torchvision: bool = False
) -> Tensor:
    """Float32 (n, c, h, w) from uint8; one grey channel is repeated to the length of `mean`.

    Parameters
    ----------
    as_torchvision : in the order of its transforms, with one pass more, for the same last digits.
    """
    deviation = torch.tensor(std, device=pixels.device)[:, None, None]
    centre = torch.tensor(mean, device=pixels.device)[:, None, None]
    repeated = pixels.expand(-1, len(mean), -1, -1)
    if as_torchvision:
        return (repeated.to(torch.float32) / 255).sub_(centre).div_(deviation)
    return repeated.to(torch.float32).mul_(1 / (255 * deviation)).sub_(centre / deviation)
