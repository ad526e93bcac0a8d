"""Controls of a pruned network: what its widths alone are worth, without its units or weights."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from mipp.device import device_of
from mipp.errors import ModelError
from mipp.selection.selection import Selection


def random_units(selection: Selection, seed: int) -> Selection:
    """As many units of every group, drawn at random; named after the method whose widths it has.

    Source: the control of Liu et al. 2019 (arXiv:1810.05270v2), with weights kept.
    """
    generator = np.random.default_rng(seed)
    kept = {}
    for group in sorted(selection.kept):
        drawn = generator.permutation(selection.width[group])[: len(selection.kept[group])]
        kept[group] = np.sort(drawn).astype(np.int64)
    provenance = {**selection.provenance, "control_seed": str(seed)}
    return Selection(kept, dict(selection.width), f"{selection.method}-random-units", provenance)


def reinitialised(model: nn.Module, seed: int) -> nn.Module:
    """A copy whose every parameter is drawn anew; running statistics are those of a new network.

    Each layer draws by its own `reset_parameters`, whatever the network's constructor did.

    Raises
    ------
    ModelError : a module holds parameters and has no such method; names it.
    """
    device = device_of(model)
    fresh = copy.deepcopy(model).cpu()  # every device then draws the same
    resets = []
    for name, module in fresh.named_modules():
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if reset is not None:
            resets.append(reset)
        elif any(True for _ in module.parameters(recurse=False)):
            raise _no_reset(type(model).__name__, name, module)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for reset in reversed(resets):  # what an outer module says about its parts comes last
            reset()
    return fresh.to(device)


def _no_reset(model: str, name: str, module: nn.Module) -> ModelError:
    own = ", ".join(parameter for parameter, _ in module.named_parameters(recurse=False))
    return ModelError(
        f"model {model} cannot be initialised anew: module {name!r} ({type(module).__name__}) "
        f"does not say how.\nExpected a method reset_parameters that draws {own}, got none; add "
        "one to its class."
    )
