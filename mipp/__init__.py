"""Mutual information preserving pruning of vision networks.

`mipp.prune(model, loader, budget="macs:0.5")` does it to a network of yours; the `mipp` command
runs the whole pipeline.
"""

from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.criteria import register_criterion
from mipp.data import register_data
from mipp.errors import MippError
from mipp.export import Exported, export_network
from mipp.layers import register_layer
from mipp.models import register_model
from mipp.oneshot import Pruned, PruneReport, prune
from mipp.selection.selection import Selection

__all__ = [
    "Checkpoint",
    "Exported",
    "MippError",
    "PruneReport",
    "Pruned",
    "Selection",
    "export_network",
    "load_checkpoint",
    "prune",
    "register_criterion",
    "register_data",
    "register_layer",
    "register_model",
    "save_checkpoint",
]
