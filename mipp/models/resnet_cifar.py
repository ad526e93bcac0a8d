"""CIFAR ResNets of He et al. 2016 (arXiv:1512.03385v1 section 4.2) with option A shortcuts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers import layer_of
from mipp.layers.padded_shortcut import PaddedShortcut


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an identity or padded shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        changes = stride != 1 or in_channels != channels
        self.shortcut = PaddedShortcut(in_channels, channels) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Three stages of `blocks` basic blocks with 16, 32 and 64 channels."""

    def __init__(self, blocks: int, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        for layer in filter(None, map(layer_of, self.modules())):
            if layer.filters is not None:
                nn.init.kaiming_normal_(layer.module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def resnet20(classes: int, channels: int) -> nn.Module:
    """ResNet-20: 3 blocks a stage, 269,722 parameters with 10 classes."""
    return CifarResNet(3, classes, channels)


def resnet32(classes: int, channels: int) -> nn.Module:
    """ResNet-32: 5 blocks a stage."""
    return CifarResNet(5, classes, channels)


def resnet56(classes: int, channels: int) -> nn.Module:
    """ResNet-56: 9 blocks a stage."""
    return CifarResNet(9, classes, channels)


def resnet110(classes: int, channels: int) -> nn.Module:
    """ResNet-110: 18 blocks a stage."""
    return CifarResNet(18, classes, channels)
