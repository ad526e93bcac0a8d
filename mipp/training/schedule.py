"""The learning rate of every batch.

Torch has classes for these; a pure function stays, because those that torch computes step from
step differ from their formulas in the last bits, and need a state of their own to be resumed.
"""

from __future__ import annotations

import math

from mipp.config import OptimConfig

# Those of torch.optim.lr_scheduler.OneCycleLR.
WARM_UP, START, END = 0.3, 1 / 25, 1 / 25e4


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
