"""Small networks for images of 32 pixels that are trained here: a transformer, and depthwise.

`model.name` takes them as `benchmarks.accuracy.networks:compact_transformer`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mipp.vision import torchvision  # before timm, which imports it plainly

WIDTH, DEPTH, HEADS = 96, 3, 3
# expansion, channels, blocks, stride of a stage of MobileNetV2; the stem halves the image before
STAGES = ([1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 2, 2], [6, 64, 3, 2], [6, 96, 2, 1], [6, 160, 1, 1])


class CompactTransformer(nn.Module):
    """Vision transformer with a convolutional stem in place of patches (arXiv:2104.05704v4).

    Three convolutions make (n, 3, 32, 32) into 64 tokens, timm's blocks follow, and the mean of
    the tokens is classified.
    """

    def __init__(self, classes: int, channels: int, size: int) -> None:
        super().__init__()
        from timm.layers import trunc_normal_
        from timm.models.vision_transformer import Block

        self.stem = nn.Sequential(
            *_conv(channels, WIDTH // 3, stride=1),
            *_conv(WIDTH // 3, 2 * WIDTH // 3, stride=2),
            *_conv(2 * WIDTH // 3, WIDTH, stride=2),
        )
        self.position = nn.Parameter(torch.zeros(1, (size // 4) ** 2, WIDTH))
        self.blocks = nn.Sequential(
            *(Block(WIDTH, HEADS, mlp_ratio=2.0, qkv_bias=True) for _ in range(DEPTH))
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)  # (n, width, 8, 8) -> (n, 64, width)
        x = self.blocks(x + self.position)
        return self.head(self.norm(x).mean(1))  # type: ignore[no-any-return]


def _conv(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU()


def compact_transformer(classes: int, channels: int = 3, size: int = 32) -> nn.Module:
    """The transformer: 306,634 parameters with 10 classes."""
    return CompactTransformer(classes, channels, size)


def mobilenet(classes: int, size: int = 32) -> nn.Module:
    """MobileNetV2 of half width that halves the image three times: 259,242 parameters."""
    model: nn.Module = torchvision.models.MobileNetV2(
        num_classes=classes, width_mult=0.5, inverted_residual_setting=[*map(list, STAGES)]
    )
    return model
