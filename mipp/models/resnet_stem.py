"""torchvision's ResNets for 32x32 images: a 3x3 stem of stride 1 and no max pool."""

from __future__ import annotations

from torch import nn


def resnet18(classes: int, channels: int) -> nn.Module:
    """ResNet-18 for small images."""
    return _small_stem("resnet18", classes, channels)


def resnet34(classes: int, channels: int) -> nn.Module:
    """ResNet-34 for small images."""
    return _small_stem("resnet34", classes, channels)


def resnet50(classes: int, channels: int) -> nn.Module:
    """ResNet-50 for small images."""
    return _small_stem("resnet50", classes, channels)


def _small_stem(name: str, classes: int, channels: int) -> nn.Module:
    from mipp.vision import torchvision  # a second of import, which other networks should not pay

    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
