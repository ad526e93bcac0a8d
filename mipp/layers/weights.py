"""Weights that a module computes from others before each call, and how to give them a value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm


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


def _weight_norm(module: nn.Module, name: str) -> Any:
    """The hook of torch's older weight norm that computes a weight, None without one."""
    hooks = module._forward_pre_hooks.values()
    return next((h for h in hooks if isinstance(h, WeightNorm) and h.name == name), None)
