"""Mutual information preserving pruning of vision networks.

`mipp.prune(model, loader, budget="macs:0.5")` does it to a network of yours. `Pruner` measures
once and answers many budgets. The `mipp` command runs the whole pipeline.

A name is imported when it is first asked for, so that `mipp --help` need not wait for torch.
"""

import ast
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mipp.budget import Budget
    from mipp.checkpoint import Checkpoint, load, load_checkpoint, save_checkpoint
    from mipp.comparing import Comparison, compare
    from mipp.criteria import register_criterion
    from mipp.data import register_data
    from mipp.direct_settings import (
        NWJ,
        TUBA,
        Diffusion,
        Dime,
        Histogram,
        InfoNCE,
        Interpolated,
        KernelDensity,
        Mine,
        Neighbours,
    )
    from mipp.errors import MippError
    from mipp.export import Exported, export_network
    from mipp.features import TERCSelector
    from mipp.information.estimators import register_estimator
    from mipp.layers import register_layer
    from mipp.models import register_model
    from mipp.pruning.inspect_network import inspect
    from mipp.pruning.inspection import Inspection
    from mipp.pruning.oneshot import prune
    from mipp.pruning.plan import Plan
    from mipp.pruning.pruned import Pruned
    from mipp.pruning.pruner import Pruner
    from mipp.pruning.ranking import Ranking
    from mipp.pruning.report import PruneReport
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
    "NWJ",
    "TUBA",
    "Budget",
    "Checkpoint",
    "Comparison",
    "Criterion",
    "Diffusion",
    "Dime",
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
    "compare",
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
    """A public name, from the module that the imports above name, or a module of mipp."""
    if home := _homes().get(name):
        globals()[name] = getattr(import_module(home), name)
        return globals()[name]
    if not name.startswith("_") and find_spec(f"mipp.{name}"):
        return import_module(f"mipp.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@cache
def _homes() -> dict[str, str]:
    """Public name -> the module to import it from, as type checkers read it in this file too."""
    nodes = ast.walk(ast.parse(Path(__file__).read_text("utf-8")))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: str(node.module) for node in imports for alias in node.names}
    return {name: homes[name] for name in __all__}
