"""Parts that the networks written here share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Net(nn.Module):
    """A forward function over named modules."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self._run = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Any:
        return self._run(self, *inputs)


def conv(
    inputs: int,
    outputs: int,
    size: int = 3,
    stride: int = 1,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    act: Callable[[], nn.Module] = nn.ReLU,
    **options: Any,
) -> nn.Sequential:
    """Convolution of 2-D maps, norm, activation."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False, **options)
    return nn.Sequential(layer, norm(outputs), act())


def groups_of_four(channels: int) -> nn.Module:
    return nn.GroupNorm(4, channels)


def head(channels: int, classes: int = 10) -> nn.Sequential:
    """Mean over a map, then classes."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """The sum of a block and its input."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.parts(x)
        return out
