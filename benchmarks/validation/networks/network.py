"""A network of the zoo: how it is built, and what it is called with."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from unittest import mock

import torch
from torch import nn

from mipp.inputs import Inputs

CLASSES = 10


@dataclass(frozen=True)
class Network:
    """One row of the page."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]  # that many random ones
    made: str = ""  # how it differs from the published network of that name
    narrower: int = 1  # by that factor


def noise(*shape: int) -> Callable[[int], Inputs]:
    """Normal noise of a shape, without the batch axis; always the same."""

    def draw(n: int) -> Inputs:
        return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))

    return draw


def pictures(size: int) -> Callable[[int], Inputs]:
    """Square images of three channels."""
    return noise(3, size, size)


@contextlib.contextmanager
def narrow(by: int, keep: Collection[int] = ()) -> Iterator[None]:
    """Convolutions, linear layers and norms that are built inside have 1/`by` of their channels.

    Images keep their three channels, classifiers their classes, and `keep` names more numbers that
    stay. Only for networks whose forward and parameters go by the layers that they build.

    >>> with narrow(4):
    ...     nn.Conv2d(3, 64, 3)
    Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1))
    """

    stay = {1, 2, 3, CLASSES, *keep}

    def less(channels: int) -> int:
        return channels if channels in stay else math.ceil(channels / by)

    conv, linear = nn.modules.conv._ConvNd.__init__, nn.Linear.__init__
    batch_norm, layer_norm = nn.modules.batchnorm._NormBase.__init__, nn.LayerNorm.__init__
    group_norm = nn.GroupNorm.__init__

    def build_conv(self, inputs, outputs, *rest, **options):  # type: ignore[no-untyped-def]
        values = list(rest)
        few = less(inputs), less(outputs)
        groups = values[6]  # kernel, stride, padding, dilation, transposed, output padding, groups
        values[6] = few[0] if groups == inputs else math.gcd(groups, *few)
        conv(self, *few, *values, **options)

    def build_linear(self, in_features, out_features, *rest, **options):  # type: ignore[no-untyped-def]
        linear(self, less(in_features), less(out_features), *rest, **options)

    def build_batch_norm(self, num_features, *rest, **options):  # type: ignore[no-untyped-def]
        batch_norm(self, less(num_features), *rest, **options)

    def build_layer_norm(self, normalized_shape, *rest, **options):  # type: ignore[no-untyped-def]
        layer_norm(self, less(normalized_shape), *rest, **options)

    def build_group_norm(self, num_groups, num_channels, *rest, **options):  # type: ignore[no-untyped-def]
        few, each = less(num_channels), num_channels // num_groups
        groups = math.gcd(num_groups, few)
        if groups == few and each > 1:  # a group of one channel is another kind of norm
            groups = max(1, few // each)
        group_norm(self, groups, few, *rest, **options)

    with (
        mock.patch.object(nn.modules.conv._ConvNd, "__init__", build_conv),
        mock.patch.object(nn.Linear, "__init__", build_linear),
        mock.patch.object(nn.modules.batchnorm._NormBase, "__init__", build_batch_norm),
        mock.patch.object(nn.LayerNorm, "__init__", build_layer_norm),
        mock.patch.object(nn.GroupNorm, "__init__", build_group_norm),
    ):
        yield


def shallow(model: nn.Module) -> nn.Module:
    """The network with one of every run of equal blocks, in place.

    >>> layers = [nn.Linear(4, 8), *(nn.Linear(8, 8) for _ in range(5)), nn.Linear(8, 2)]
    >>> len(shallow(nn.Sequential(*layers)))
    3
    """
    for module in list(model.modules()):
        if type(module) is nn.ModuleList or isinstance(module, nn.Sequential):
            runs = [
                list(run) for _, run in itertools.groupby(module._modules, partial(_kind, module))
            ]
            for name in itertools.chain.from_iterable(run[1:] for run in runs):
                del module._modules[name]
            if all(name.isdecimal() for name in module._modules):  # they are counted by number
                module._modules = {str(i): block for i, block in enumerate(module)}
    return model


def _kind(module: nn.Module, name: str) -> str:
    """Blocks of one kind are equal but for their weights; a layer without any is never one."""
    block = module._modules[name]
    assert block is not None
    shapes = {key: tuple(value.shape) for key, value in block.state_dict().items()}
    alike = re.sub(r"(p|drop_prob)=[\d.]+", "", repr(block))  # chances differ with the depth
    return f"{alike} {shapes}" if shapes else name


def narrowed(
    by: int, build: Callable[[], nn.Module], keep: Collection[int] = (), *, deep: bool = False
) -> Callable[[], nn.Module]:
    """The same network, `narrow` and, if not to stay deep, `shallow`."""

    def run() -> nn.Module:
        with narrow(by, keep):
            return build() if deep else shallow(build())

    return run
