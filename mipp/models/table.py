"""The table of networks: what `model.name` may say, and what each one is given.

A network of yours is a function that makes it, or its class. It is called with what it names of
`classes`, `channels` and `size`; a default of the last two says what images it is made for.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn

from mipp.errors import ModelError, did_you_mean, option
from mipp.models import timm_models
from mipp.models.torchvision_models import (
    build_torchvision_model,
    torchvision_names,
    torchvision_size,
)
from mipp.names import Table, call_taking, require_takes

_PREFIX = "torchvision/"


@dataclass(frozen=True)
class ModelSpec:
    """All it takes to build a network: its name and the shapes at both ends."""

    name: str
    classes: int
    channels: int
    size: int


def _require_build(thing: Any) -> None:
    if isinstance(thing, nn.Module):
        raise TypeError(
            "expected a function that makes a network, or its class, got a network; every run "
            "draws its own weights"
        )
    require_takes(thing, ("classes", "channels", "size"), "a function that makes a network")


# Name -> its function, and the size of the images that it was made for.
_OWN = {
    "lenet-300-100": ("mipp.models.lenet:lenet_300_100", 28),
    "lenet5": ("mipp.models.lenet:lenet5", 28),
    "lenet5-caffe": ("mipp.models.lenet:lenet5_caffe", 28),
    "resnet18": ("mipp.models.resnet_stem:resnet18", 32),
    "resnet20": ("mipp.models.resnet_cifar:resnet20", 32),
    "resnet32": ("mipp.models.resnet_cifar:resnet32", 32),
    "resnet34": ("mipp.models.resnet_stem:resnet34", 32),
    "resnet50": ("mipp.models.resnet_stem:resnet50", 32),
    "resnet56": ("mipp.models.resnet_cifar:resnet56", 32),
    "resnet110": ("mipp.models.resnet_cifar:resnet110", 32),
    "vgg11": ("mipp.models.vgg:vgg11", 32),
    "vgg16": ("mipp.models.vgg:vgg16", 32),
    "vgg19": ("mipp.models.vgg:vgg19", 32),
}

MODELS: Table[Callable[..., nn.Module]] = Table(
    "model",
    "model.name",
    ModelError,
    _require_build,
    {name: address for name, (address, _) in _OWN.items()},
)


def register_model(
    name: str,
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Decorator: `model.name` may say this name, in this process; see the module for how.

    Elsewhere, and from every command, `package.module:attribute` names the same network.

    Raises
    ------
    ModelError : the name is taken, or what is registered cannot make a network.

    Example
    -------
    >>> @register_model("one-layer")
    ... def one_layer(classes, channels, size):
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, classes))
    >>> build_model(ModelSpec("one-layer", classes=10, channels=1, size=8), seed=0)[1]
    Linear(in_features=64, out_features=10, bias=True)
    """
    return MODELS.register(name)


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
    model = make_model(spec, seed=seed)
    _check_fits(model, spec)
    return model


def make_model(spec: ModelSpec, *, seed: int | None = None) -> nn.Module:
    """The same, whatever it takes and returns; parameters as for `build_model`.

    Raises
    ------
    ModelError : the name is unknown, its package is not installed, or it makes no network.
    """
    build = _builder(spec)  # first: a module that is imported may draw numbers
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        return build()


def preferred_input(name: str) -> tuple[int | None, int | None]:
    """Channels and image size that the network wants; None where the set's own will do.

    Raises
    ------
    ModelError : the name is unknown, or its package is not installed.
    """
    if name in _OWN:
        return None, _OWN[name][1]
    if name.startswith(timm_models.PREFIX):
        return None, timm_models.timm_size(name.removeprefix(timm_models.PREFIX))
    if is_ours(name):
        return _default(name, "channels"), _default(name, "size")
    return 3, torchvision_size(torchvision_name(name))


def is_ours(name: str) -> bool:
    """Whether a name is of mipp's own networks, or of one that somebody brings."""
    return name in MODELS or ":" in name


def _default(name: str, parameter: str) -> int | None:
    """What a network says by the default of its function's parameter."""
    known = inspect.signature(MODELS.resolve(name)).parameters.get(parameter)
    return known.default if known is not None and isinstance(known.default, int) else None


def _builder(spec: ModelSpec) -> Callable[[], nn.Module]:
    if spec.name.startswith(timm_models.PREFIX):
        name = spec.name.removeprefix(timm_models.PREFIX)
        return partial(timm_models.build_timm_model, name, spec.classes, spec.channels, spec.size)
    if is_ours(spec.name):
        return partial(_build, MODELS.resolve(spec.name), spec)
    name = torchvision_name(spec.name)
    return partial(build_torchvision_model, name, spec.classes, spec.channels)


def _build(function: Callable[..., nn.Module], spec: ModelSpec) -> nn.Module:
    model = call_taking(function, classes=spec.classes, channels=spec.channels, size=spec.size)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model {spec.name!r} ({option('model.name')}) makes no network.\nExpected "
            f"{MODELS.address(spec.name)} to return an nn.Module, got a {type(model).__name__}."
        )
    return model


def torchvision_name(name: str) -> str:
    """The name that torchvision knows it by.

    Raises
    ------
    ModelError : it has no such network.
    """
    names = torchvision_names()
    bare = name.removeprefix(_PREFIX)
    if bare not in names:
        near = difflib.get_close_matches(bare.lower(), [*MODELS, *names], n=3, cutoff=0.5)
        raise ModelError(
            f"model {name!r} ({option('model.name')}) is unknown; "
            f"{did_you_mean(bare, {*MODELS, *near})}, any classification network of torchvision "
            f"as {_PREFIX}NAME, or of timm as {timm_models.PREFIX}NAME, or one of yours as "
            "package.module:attribute."
        )
    return bare


def _check_fits(model: nn.Module, spec: ModelSpec) -> None:
    """Run the network on one image, so that a misfit is found before any compute.

    On shapes alone; one that people bring may make tensors that such a run cannot mix with.
    """
    device = "cpu" if is_ours(spec.name) and spec.name not in _OWN else "meta"
    tensors = chain(model.named_parameters(), model.named_buffers())
    shapes = {name: tensor.detach().to(device) for name, tensor in tensors}
    images = torch.zeros(1, spec.channels, spec.size, spec.size, device=device)
    try:
        with torch.no_grad():
            outputs = torch.func.functional_call(model.eval(), shapes, images)
    except Exception as error:
        made_for = preferred_input(spec.name)[1] or 224
        raise ModelError(
            f"model {spec.name!r} does not fit its input.\n"
            f"Expected images it can run on, got ({spec.channels}, {spec.size}, {spec.size}), "
            f"which fails with: {error}\n"
            f"Set data.size to what the model was made for, such as {made_for}."
        ) from error
    finally:
        model.train()
    _require_logits(outputs, spec)


def _require_logits(outputs: object, spec: ModelSpec) -> None:
    found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    fits = isinstance(found, tuple) and len(found) == 2 and found[1] >= spec.classes
    if not fits:
        raise ModelError(
            f"model {spec.name!r} does not fit the data's {spec.classes} classes.\n"
            f"Expected outputs (images, {spec.classes}), a logit for each class, got {found} for "
            "one image.\nGive its last layer as many outputs as the function is told in `classes`."
        )
