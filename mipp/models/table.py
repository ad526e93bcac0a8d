"""The table of networks: what `model.name` may say, and what each one is given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from mipp.errors import ModelError, did_you_mean
from mipp.models import lenet, resnet_cifar, resnet_stem, timm_models, vgg
from mipp.models.torchvision_models import (
    build_torchvision_model,
    torchvision_names,
    torchvision_size,
)

_PREFIX = "torchvision/"


@dataclass(frozen=True)
class ModelSpec:
    """All it takes to build a network: its name and the shapes at both ends."""

    name: str
    classes: int
    channels: int
    size: int


@dataclass(frozen=True)
class Architecture:
    """A row of `MODELS`: how to build the network, and the image size it was made for."""

    build: Callable[[ModelSpec], nn.Module]
    size: int


def _any_size(build: Callable[[int, int], nn.Module]) -> Architecture:
    return Architecture(lambda spec: build(spec.classes, spec.channels), size=32)


def _one_size(build: Callable[[int, int, int], nn.Module]) -> Architecture:
    return Architecture(lambda spec: build(spec.classes, spec.channels, spec.size), size=28)


MODELS: Mapping[str, Architecture] = {
    "lenet-300-100": _one_size(lenet.lenet_300_100),
    "lenet5": _one_size(lenet.lenet5),
    "lenet5-caffe": _one_size(lenet.lenet5_caffe),
    "resnet18": _any_size(resnet_stem.resnet18),
    "resnet20": _any_size(resnet_cifar.resnet20),
    "resnet32": _any_size(resnet_cifar.resnet32),
    "resnet34": _any_size(resnet_stem.resnet34),
    "resnet50": _any_size(resnet_stem.resnet50),
    "resnet56": _any_size(resnet_cifar.resnet56),
    "resnet110": _any_size(resnet_cifar.resnet110),
    "vgg11": _any_size(vgg.vgg11),
    "vgg16": _any_size(vgg.vgg16),
    "vgg19": _any_size(vgg.vgg19),
}


def build_model(spec: ModelSpec, *, seed: int | None = None) -> nn.Module:
    """Network with random weights, in training mode, on the CPU.

    Parameters
    ----------
    seed : of the weights, which then leaves torch's global generator as it was; None draws them
        from that generator.

    Raises
    ------
    ModelError : the name is unknown, its package is not installed, or the network does not take
        such images.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        model = _build(spec)
    _check_fits(model, spec)
    return model


def preferred_input(name: str) -> tuple[int | None, int | None]:
    """Channels and image size that the network wants; None where the set's own will do.

    Raises
    ------
    ModelError : the name is unknown, or its package is not installed.
    """
    if name in MODELS:
        return None, MODELS[name].size
    if name.startswith(timm_models.PREFIX):
        return None, timm_models.timm_size(name.removeprefix(timm_models.PREFIX))
    return 3, torchvision_size(_torchvision_name(name))


def _build(spec: ModelSpec) -> nn.Module:
    if spec.name in MODELS:
        return MODELS[spec.name].build(spec)
    if spec.name.startswith(timm_models.PREFIX):
        name = spec.name.removeprefix(timm_models.PREFIX)
        return timm_models.build_timm_model(name, spec.classes, spec.channels, spec.size)
    return build_torchvision_model(_torchvision_name(spec.name), spec.classes, spec.channels)


def _torchvision_name(name: str) -> str:
    names = torchvision_names()
    bare = name.removeprefix(_PREFIX)
    if bare not in names:
        near = difflib.get_close_matches(bare.lower(), [*MODELS, *names], n=3, cutoff=0.5)
        raise ModelError(
            f"model {name!r} (model.name) is unknown; {did_you_mean(bare, {*MODELS, *near})}, "
            f"any classification network of torchvision as {_PREFIX}NAME, or of timm as "
            f"{timm_models.PREFIX}NAME."
        )
    return bare


def _check_fits(model: nn.Module, spec: ModelSpec) -> None:
    """Run the network on shapes alone, so that a misfit is found before any compute."""
    tensors = chain(model.named_parameters(), model.named_buffers())
    shapes = {name: tensor.detach().to("meta") for name, tensor in tensors}
    images = torch.empty(1, spec.channels, spec.size, spec.size, device="meta")
    try:
        with torch.no_grad():
            torch.func.functional_call(model.eval(), shapes, images)
    except (RuntimeError, AssertionError, ValueError) as error:
        made_for = preferred_input(spec.name)[1] or 224
        raise ModelError(
            f"model {spec.name!r} does not fit its input.\n"
            f"Expected images it can run on, got ({spec.channels}, {spec.size}, {spec.size}), "
            f"which fails with: {error}\n"
            f"Set data.size to what the model was made for, such as {made_for}."
        ) from error
    finally:
        model.train()
