"""Training and fine-tuning: one loop, exactly resumable.

loop         the epochs, and what is left in the end; `history` what they saw, and when to stop
epoch        every batch of one, and the steps that follow; `schedule` the rate of each
optimizers   by name; `teacher`, `regulariser` what is beside the loss, `slimming` one of these
resume       what a killed training goes on from
spread       a network as one process or several run it; `sharded` with its weights divided,
             `strategy` which of them
"""

from mipp.training.history import EpochRecord
from mipp.training.loop import require_trainable, train
from mipp.training.regulariser import Regulariser
from mipp.training.slimming import Slimming
from mipp.training.strategy import require_undivided
from mipp.training.teacher import Teacher

__all__ = [
    "EpochRecord",
    "Regulariser",
    "Slimming",
    "Teacher",
    "require_trainable",
    "require_undivided",
    "train",
]
