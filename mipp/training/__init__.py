"""Training and fine-tuning: one loop, exactly resumable."""

from mipp.training.history import EpochRecord
from mipp.training.loop import require_trainable, train

__all__ = ["EpochRecord", "require_trainable", "train"]
