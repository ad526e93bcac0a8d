"""VGG for 32x32 images (arXiv:1409.1556v6 table 1, A, D and E) with one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mipp.layers import layer_of

# Convolutions of each stage by channels; a stage ends in a max pool.
_STAGES = {
    "vgg11": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}


class Vgg(nn.Module):
    """Convolutions with batch norm, their average over the image, a linear classifier."""

    def __init__(self, stages: Sequence[Sequence[int]], classes: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in stages:
            for width in stage:
                # no bias: the batch norm that follows has one
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, classes)
        for layer in filter(None, map(layer_of, self.features)):
            if layer.filters is not None:
                weight = layer.module.weight
                nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.pool(self.features(x))))
        return logits


def vgg11(classes: int, channels: int) -> nn.Module:
    """VGG-11: 8 convolutions, 9,228,362 parameters with 10 classes."""
    return Vgg(_STAGES["vgg11"], classes, channels)


def vgg16(classes: int, channels: int) -> nn.Module:
    """VGG-16: 13 convolutions."""
    return Vgg(_STAGES["vgg16"], classes, channels)


def vgg19(classes: int, channels: int) -> nn.Module:
    """VGG-19: 16 convolutions."""
    return Vgg(_STAGES["vgg19"], classes, channels)
