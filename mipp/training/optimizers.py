"""Optimizers by name: of torch, of timm, or yours."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from mipp.config import OptimConfig
from mipp.errors import ConfigError, did_you_mean
from mipp.names import Table

TIMM = "timm/"
UNFIT = ("lbfgs", "sparseadam", "muon")  # want a closure, sparse gradients, matrices alone
TORCH: Mapping[str, type[torch.optim.Optimizer]] = {
    name.lower(): kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)
    if name.lower() not in ("optimizer", *UNFIT)
}


def _require_optimizer(thing: Any) -> None:
    if not callable(thing):
        raise TypeError(f"expected an optimizer's class, got a {type(thing).__name__}")


OPTIMIZERS: Table[Callable[..., torch.optim.Optimizer]] = Table(
    "optimizer",
    "train.optimizer, finetune.optimizer",
    ConfigError,
    _require_optimizer,
    {},
    (*TORCH, f"{TIMM}NAME"),
)


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters; biases and norms (1-d) do not decay.

    Where it has no `momentum`, that is the decay of its first moment, beta 1 of Adam's kind.

    Raises
    ------
    ConfigError : nobody knows it, timm is not installed, or `momentum` has no effect on it.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return optimizer_of(config)(groups)


def optimizer_of(config: OptimConfig) -> Callable[..., torch.optim.Optimizer]:
    """What makes the optimizer of its parameter groups, with the section's rate and momentum.

    Raises
    ------
    ConfigError : as `build_optimizer` says.
    """
    name = config.optimizer
    kind = _named(name)
    takes = inspect.signature(kind).parameters
    if "momentum" in takes:
        return partial(kind, lr=config.lr, momentum=config.momentum)
    if "betas" in takes:
        return partial(kind, lr=config.lr, betas=(config.momentum, *takes["betas"].default[1:]))
    if config.momentum != type(config).model_fields["momentum"].default:
        raise ConfigError(
            f"momentum {config.momentum:g} has no effect on the optimizer {name}.\nExpected it to "
            "be left out, as there is neither momentum nor betas, got it; drop it, or choose sgd."
        )
    return partial(kind, lr=config.lr)


def _named(name: str) -> Callable[..., torch.optim.Optimizer]:
    """The class, or what makes one with what a name of timm stands for."""
    if name in TORCH:
        return TORCH[name]
    if not name.startswith(TIMM):
        return OPTIMIZERS.resolve(name)
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(
            f"optimizer {name!r} cannot be had.\nExpected the package timm, got none; run "
            "`pip install 'timm>=1.0.20'`, or choose one of torch, such as adamw."
        )
    import mipp.vision  # noqa: F401, I001 - timm imports torchvision, which may need its help
    import timm.optim

    theirs: Any = timm.optim
    known = theirs.list_optimizers()
    if name.removeprefix(TIMM) not in known:
        near = did_you_mean(name.removeprefix(TIMM), known)
        raise ConfigError(f"optimizer {name!r} is unknown to timm {timm.__version__}; {near}.")
    kind: Callable[..., torch.optim.Optimizer] = theirs.get_optimizer_class(
        name.removeprefix(TIMM), bind_defaults=True
    )
    return kind
