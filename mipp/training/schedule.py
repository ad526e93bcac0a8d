"""The optimizer, and the learning rate of every batch."""

from __future__ import annotations

import math

import torch
from torch import nn

from mipp.config import OptimConfig

# Those of torch.optim.lr_scheduler.OneCycleLR.
WARM_UP, START, END = 0.3, 1 / 25, 1 / 25e4


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters; biases and norms (1-d) do not decay.

    For AdamW `momentum` is the decay of the first moment, beta 1.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)


def lr_at(config: OptimConfig, step: int, total: int) -> float:
    """Learning rate of one batch: a pure function, so that resuming needs no scheduler state.

    Parameters
    ----------
    step : batches before this one, 0 <= step < total.
    total : batches of all epochs.
    """
    if config.schedule == "onecycle":
        return _one_cycle(config.lr, step, total)
    rising = config.warmup * total  # batches
    peak = config.lr * (min(1.0, (step + 1) / rising) if rising else 1.0)
    if config.schedule == "cosine":
        return _anneal(peak, 0.0, max(0.0, step - rising) / (total - rising))
    if config.schedule == "step":
        return peak * 0.1 ** sum(step >= share * total for share in config.milestones)
    return peak


def _one_cycle(peak: float, step: int, total: int) -> float:
    # Momentum is not cycled: it would overrule the configured one.
    top, last = WARM_UP * total - 1, total - 1
    if step <= top:
        return _anneal(peak * START, peak, step / top)
    return _anneal(peak, peak * END, (step - top) / (last - top))


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
