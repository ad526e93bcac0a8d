"""Mutual information preserving pruning of vision networks.

`mipp.prune(model, loader, budget="macs:0.5")` does it to a network of yours. `Pruner` measures
once and answers many budgets. The `mipp` command runs the whole pipeline.
"""

from typing import TYPE_CHECKING, Any

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
    NWJ,
    TUBA,
    Criterion,
    Diffusion,
    Distill,
    Gaussian,
    Histogram,
    InfoNCE,
    Interpolated,
    KernelDensity,
    Limits,
    Mine,
    Mipp,
    Neighbours,
    NoRepair,
    Recalibrate,
    Reconstruction,
    Refit,
)

if TYPE_CHECKING:
    from mipp.features import TERCSelector

__all__ = [
    "NWJ",
    "TUBA",
    "Budget",
    "Checkpoint",
    "Criterion",
    "Diffusion",
    "Distill",
    "Exported",
    "Gaussian",
    "Histogram",
    "InfoNCE",
    "Inspection",
    "Interpolated",
    "KernelDensity",
    "Limits",
    "Mine",
    "Mipp",
    "MippError",
    "Neighbours",
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
    "TERCSelector",
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


def __getattr__(name: str) -> Any:
    """`TERCSelector` when it is asked for: scikit-learn takes a second to import."""
    if name == "TERCSelector":
        from mipp.features import TERCSelector

        return TERCSelector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
