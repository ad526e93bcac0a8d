"""Networks on disk: `recipe` says what a file holds and writes it, `rebuild` reads it back.

`calls` writes and reads the calls that a network was pruned with.
"""

from mipp.checkpoint.rebuild import load, load_checkpoint
from mipp.checkpoint.recipe import Checkpoint, save_checkpoint

__all__ = ["Checkpoint", "load", "load_checkpoint", "save_checkpoint"]
