"""The option A shortcut of He et al. 2016 (arXiv:1512.03385v1 section 4.1), without weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers.answers import Side, Window
from mipp.layers.layer import Layer
from mipp.layers.rows import kernel_pixels, kernel_rows, map_rows
from mipp.layers.table import register_layer


class PaddedShortcut(nn.Module):
    """Parameter-free shortcut: subsample by 2 and place input channels among zero channels.

    `source[j]` is the input channel that output channel j copies, -1 for a zero channel. The
    copy is a one-hot 1x1 convolution, so that either side can lose channels on its own.
    """

    placement: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        padding = (out_channels - in_channels) // 2
        source = torch.full((out_channels,), -1, device="cpu")
        source[padding : padding + in_channels] = torch.arange(in_channels, device="cpu")
        placement = F.one_hot(source + 1, in_channels + 1)[:, 1:].float()  # (out, in)
        self.register_buffer("placement", placement[:, :, None, None], persistent=False)

    @property
    def in_channels(self) -> int:
        return self.placement.shape[1]

    @property
    def out_channels(self) -> int:
        return self.placement.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        placement = self.placement[:, :, 0, 0]
        copies = x[:, :, ::2, ::2].index_select(1, placement.argmax(1))
        return copies * placement.sum(1)[:, None, None].to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


@register_layer
class Shortcut(Layer):
    """A padded shortcut: a convolution whose outputs are copies, so that it names no group."""

    types, kind, role = (PaddedShortcut,), "shortcut", "makes"
    weight = "placement"
    names_groups, sampled = False, True
    window = Window((1, 1), (2, 2), (1, 1), (0, 0))

    @property
    def inputs(self) -> Side:
        return Side(self.module.in_channels, tensors={"placement": 1})

    @property
    def outputs(self) -> Side:
        return Side(self.module.out_channels, tensors={"placement": 0})

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        return kernel_rows(x, *kernel_pixels(at, x, self.window, made))

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return map_rows(y, at)
