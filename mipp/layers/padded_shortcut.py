"""The option A shortcut of He et al. 2016 (arXiv:1512.03385v1 section 4.1), without weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PaddedShortcut(nn.Module):
    """Parameter-free shortcut: subsample by 2 and place input channels among zero channels.

    `source[j]` is the input channel that output channel j copies, -1 for a zero channel. The
    copy is a one-hot 1x1 convolution, so that either side can lose channels on its own.
    """

    placement: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        padding = (out_channels - in_channels) // 2
        source = torch.full((out_channels,), -1)
        source[padding : padding + in_channels] = torch.arange(in_channels)
        placement = F.one_hot(source + 1, in_channels + 1)[:, 1:].float()  # (out, in)
        self.register_buffer("placement", placement[:, :, None, None], persistent=False)

    @property
    def in_channels(self) -> int:
        return self.placement.shape[1]

    @property
    def out_channels(self) -> int:
        return self.placement.shape[0]

    def drop_inputs(self, channels: list[int]) -> None:
        """Forget input channels; outputs that copied one become zero channels."""
        kept = [c for c in range(self.in_channels) if c not in set(channels)]
        self.placement = self.placement[:, kept]

    def drop_outputs(self, channels: list[int]) -> None:
        """Forget output channels."""
        kept = [c for c in range(self.out_channels) if c not in set(channels)]
        self.placement = self.placement[kept]

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.placement.to(x.dtype), stride=2)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"
