"""Mutual information preserving pruning of vision networks.

`mipp.prune(model, loader, budget="macs:0.5")` does it to a network of yours. `Pruner` measures
once and answers many budgets. The `mipp` command runs the whole pipeline.
"""

from mipp.budget import Budget
from mipp.checkpoint import Checkpoint, load, load_checkpoint, save_checkpoint
from mipp.criteria import register_criterion
from mipp.data import register_data
from mipp.errors import MippError
from mipp.export import Exported, export_network
from mipp.information.estimators import register_estimator
from mipp.layers import register_layer
from mipp.models import register_model
from mipp.pruning.inspect_network import inspect
from mipp.pruning.inspection import Inspection
from mipp.pruning.oneshot import prune
from mipp.pruning.plan import Plan
from mipp.pruning.pruned import Pruned, PruneReport
from mipp.pruning.pruner import Pruner
from mipp.pruning.ranking import Ranking
from mipp.selection.selection import Selection
from mipp.settings import (
    Criterion,
    Distill,
    Gaussian,
    Limits,
    Mipp,
    NoRepair,
    Recalibrate,
    Reconstruction,
    Refit,
)

__all__ = [
    "Budget",
    "Checkpoint",
    "Criterion",
    "Distill",
    "Exported",
    "Gaussian",
    "Inspection",
    "Limits",
    "Mipp",
    "MippError",
    "NoRepair",
    "Plan",
    "PruneReport",
    "Pruned",
    "Pruner",
    "Ranking",
    "Recalibrate",
    "Reconstruction",
    "Refit",
    "Selection",
    "export_network",
    "inspect",
    "load",
    "load_checkpoint",
    "prune",
    "register_criterion",
    "register_data",
    "register_estimator",
    "register_layer",
    "register_model",
    "save_checkpoint",
]
