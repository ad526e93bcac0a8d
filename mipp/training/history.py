"""What training has seen so far, epoch by epoch, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """One epoch in numbers that two identical runs share.

    The training numbers are means over the epoch while the weights move, with augmentation,
    dropout and label smoothing; the validation numbers are those of the weights at its end,
    with none of these, and None where the validation split is empty.
    """

    epoch: int  # from 1
    lr: float  # of the last batch
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None


def best_epoch(history: Sequence[EpochRecord]) -> int:
    """First epoch with the least validation loss; 0 while there is none."""
    best, least = 0, math.inf
    for record in history:
        # A NaN compares as false: never the best.
        if record.validation_loss is not None and record.validation_loss < least:
            best, least = record.epoch, record.validation_loss
    return best


def has_stalled(history: Sequence[EpochRecord], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation loss; never if 0."""
    return patience > 0 and len(history) - best_epoch(history) >= patience
