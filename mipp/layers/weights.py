"""Weights that a module computes from others before each call, and how to give them a value."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.spectral_norm import (
    SpectralNorm,
    SpectralNormLoadStateDictPreHook,
    remove_spectral_norm,
)
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm


def write_weight(module: nn.Module, name: str, value: Tensor) -> None:
    """Give a weight a value, in place; where it is computed, what it is computed from.

    weight = g * v / |v|      v takes the value, g its length: the weight is the value again

    What no other parameters give, such as a value of another spectral norm, is not written
    exactly: whoever writes has to look at what comes of it.
    """
    own = getattr(module, name)
    value = value.reshape(own.shape).to(own.dtype)
    norm = _weight_norm(module, name)
    if parametrize.is_parametrized(module, name):
        setattr(module, name, value)
        return
    own.copy_(value)
    if norm is not None:
        getattr(module, f"{name}_v").copy_(value)
        getattr(module, f"{name}_g").copy_(torch.norm_except_dim(value, 2, norm.dim))


def replace_weight(module: nn.Module, name: str, value: Tensor) -> None:
    """Give a weight a value of any shape; a weight norm goes on computing it."""
    norm = _weight_norm(module, name)
    if norm is not None:
        trained = getattr(module, f"{name}_v").requires_grad
        length = torch.norm_except_dim(value, 2, norm.dim)
        setattr(module, f"{name}_v", nn.Parameter(value.clone(), trained))
        setattr(module, f"{name}_g", nn.Parameter(length, trained))
    if isinstance(getattr(module, name), nn.Parameter):
        value = nn.Parameter(value, getattr(module, name).requires_grad)
    setattr(module, name, value)


def make_plain(module: nn.Module, name: str, *, lengths: bool = False) -> None:
    """Make a parameter of a weight that is computed, with the value that it has in evaluation.

    A weight norm can give any weight, also a cut one, and is left; a spectral norm, or another
    parametrization, of a part of a weight is another than that of the whole.

    Parameters
    ----------
    lengths : weight norms go too.
    """
    if parametrize.is_parametrized(module, name):
        steps: Any = module.parametrizations[name]  # type: ignore[index]
        if lengths or not all(type(step) is _WeightNorm for step in steps):
            steps.eval()
            _unparametrize(module, name)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, SpectralNorm) and hook.name == name:
            remove_spectral_norm(module, name)
            _expect_plain_state(module)
        elif lengths and isinstance(hook, WeightNorm) and hook.name == name:
            remove_weight_norm(module, name)


def _unparametrize(module: nn.Module, name: str) -> None:
    """As torch does it, which would change the class that a copy shares with its original."""
    value = getattr(module, name).detach().clone()
    steps: Any = module.parametrizations
    trained = any(tensor.requires_grad for tensor in steps[name].parameters())
    del steps[name]
    kind = type(module)
    if len(steps):
        others = {key: value for key, value in vars(kind).items() if key != name}
        module.__class__ = type(kind.__name__, kind.__bases__, others)
    else:
        del module.parametrizations
        module.__class__ = kind.__bases__[0]
    setattr(module, name, nn.Parameter(value, trained))


def _expect_plain_state(module: nn.Module) -> None:
    """Remove a hook of the older spectral norm that torch, which wraps it, no longer finds."""
    for key, hook in list(module._load_state_dict_pre_hooks.items()):
        if isinstance(getattr(hook, "hook", hook), SpectralNormLoadStateDictPreHook):
            del module._load_state_dict_pre_hooks[key]


def plain(model: nn.Module) -> nn.Module:
    """The model, or a copy in which no weight is computed from others where some are."""
    found = [(name, weight) for name, m in model.named_modules() for weight in _computed(m)]
    if not found:
        return model
    copied = copy.deepcopy(model)
    for name, weight in found:
        make_plain(copied.get_submodule(name), weight, lengths=True)
    return copied


def made_plain(dense: nn.Module, model: nn.Module) -> tuple[str, ...]:
    """Full names of weights that a network computes from others, and a cut one of it no longer."""
    cut = {name: set(_computed(module)) for name, module in model.named_modules()}
    return tuple(
        f"{name}.{weight}".lstrip(".")
        for name, module in dense.named_modules()
        for weight in _computed(module)
        if weight not in cut.get(name, ())
    )


def _computed(module: nn.Module) -> list[str]:
    hooks = module._forward_pre_hooks.values()
    names = [hook.name for hook in hooks if isinstance(hook, (SpectralNorm, WeightNorm))]
    if parametrize.is_parametrized(module):
        names += list(module.parametrizations)  # type: ignore[arg-type]
    return names


def _weight_norm(module: nn.Module, name: str) -> Any:
    """The hook of torch's older weight norm that computes a weight, None without one."""
    hooks = module._forward_pre_hooks.values()
    return next((h for h in hooks if isinstance(h, WeightNorm) and h.name == name), None)
