"""Training and fine-tuning: one loop, exactly resumable."""

from mipp.training.history import EpochRecord
from mipp.training.loop import train

__all__ = ["EpochRecord", "train"]
