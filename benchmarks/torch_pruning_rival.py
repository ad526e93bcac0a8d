"""Torch-Pruning's own criteria and pruner, as rivals of this project's."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn

from mipp.metrics import count_macs
from mipp.models.resnet_cifar import PaddedShortcut

IMPORTANCES: Mapping[str, Callable[[], Any]] = {
    "l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
    "taylor": tp.importance.GroupTaylorImportance,
}
PROBES = 14  # bisections of the pruning ratio
TOLERANCE = 0.01  # of the budget


def accumulate_gradients(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Leave the sum of all batches' gradients in the model, as Taylor importance reads them."""
    model.zero_grad()
    for images, labels in batches:
        F.cross_entropy(model(images), labels).backward()


class _ShortcutPruner(tp.pruner.function.BasePruningFunc):  # type: ignore[misc]
    """Tells Torch-Pruning that the two sides of a padded shortcut are not coupled."""

    def prune_out_channels(self, layer: PaddedShortcut, idxs: list[int]) -> nn.Module:
        layer.drop_outputs(list(idxs))
        return layer

    def prune_in_channels(self, layer: PaddedShortcut, idxs: list[int]) -> nn.Module:
        layer.drop_inputs(list(idxs))
        return layer

    def get_out_channels(self, layer: PaddedShortcut) -> int:
        return layer.out_channels

    def get_in_channels(self, layer: PaddedShortcut) -> int:
        return layer.in_channels


def trace_dependencies(model: nn.Module, example: Tensor) -> tuple[Any, nn.Module]:
    """Torch-Pruning's dependency graph over a copy of the model, and that copy."""
    traced = copy.deepcopy(model).eval()
    for parameter in traced.parameters():
        parameter.requires_grad_(True)
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its notes on unwrapped parameters
        dependencies = tp.DependencyGraph().build_dependency(
            traced, example, customized_pruners={PaddedShortcut: _ShortcutPruner()}
        )
    return dependencies, traced


def score_groups(dependencies: Any) -> list[Tensor]:
    """Taylor importance of every group in a dependency graph, from accumulated gradients."""
    importance = IMPORTANCES["taylor"]()
    return [importance(group) for group in dependencies.get_all_groups()]


@dataclass(frozen=True)
class RivalCut:
    """A pruned network and the seconds of its last probe: trace, importance and surgery."""

    model: nn.Module
    seconds: float


def prune_inner_channels(
    model: nn.Module,
    example: Tensor,
    importance: str,
    scope: Literal["layer", "global"],
    share: float,
) -> RivalCut:
    """Torch-Pruning's answer at a share of the MACs; only the blocks' inner channels go.

    The outputs of all `conv1` inside `layer1` to `layer3` are pruned; residual streams stay
    whole, because it cannot follow padded shortcuts. The ratio is bisected; per layer it is
    spread by a thousandth, so that widths fall one layer at a time.

    Parameters
    ----------
    model : a CIFAR ResNet; holds gradients where the importance reads them; left as found.
    share : of the dense network's MACs, met within `TOLERANCE`.
    """
    target = share * count_macs(model, example.shape[1:])
    low, high = 0.0, 1.0
    closest, error = None, float("inf")
    for _ in range(PROBES):
        ratio = (low + high) / 2
        started = time.perf_counter()
        pruned = _cut(model, example, importance, scope, ratio)
        seconds = time.perf_counter() - started
        macs = count_macs(pruned, example.shape[1:])
        low, high = (ratio, high) if macs > target else (low, ratio)
        if abs(macs / target - 1) < error:
            closest, error = RivalCut(pruned, seconds), abs(macs / target - 1)
    if closest is None or error > TOLERANCE:
        raise SystemExit(
            f"Torch-Pruning ({importance}, {scope}) missed macs:{share:g} by {error:.1%}; "
            "choose a milder --budget."
        )
    return closest


def _cut(model: nn.Module, example: Tensor, importance: str, scope: str, ratio: float) -> nn.Module:
    pruned = copy.deepcopy(model)
    for copied, parameter in zip(pruned.parameters(), model.parameters(), strict=True):
        copied.grad = parameter.grad  # deepcopy leaves gradients behind
    modules = dict(pruned.named_modules())
    inner = [m for n, m in modules.items() if n.startswith("layer") and n.endswith("conv1")]
    layers = (nn.Conv2d, nn.Linear, PaddedShortcut)
    whole = [m for m in modules.values() if isinstance(m, layers) and m not in inner]
    ratios = {m: min(ratio + 1e-3 * i, 1.0) for i, m in enumerate(inner)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            pruned,
            example,
            IMPORTANCES[importance](),
            global_pruning=scope == "global",
            pruning_ratio=ratio,
            pruning_ratio_dict=ratios if scope == "layer" else None,
            ignored_layers=whole,
        )
        pruner.step()
    pruned.zero_grad()
    return pruned
