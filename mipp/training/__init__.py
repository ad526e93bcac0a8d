"""Training and fine-tuning: one loop, exactly resumable."""

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
