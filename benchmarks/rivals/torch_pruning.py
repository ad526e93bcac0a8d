"""Torch-Pruning's own criteria and pruner, as rivals of this project's."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn

from mipp.layers import layer_at
from mipp.layers.padded_shortcut import PaddedShortcut

PROBES = 14  # bisections of the pruning ratio, at most
CLOSE = 0.05  # of the slack: near enough to stop
SPREAD = 1e-3  # between the ratios of two layers, so that widths fall one layer at a time
WIDE = (nn.Conv2d, nn.Linear, PaddedShortcut)


@dataclass(frozen=True)
class Criterion:
    """A criterion of Torch-Pruning, and what it reads from `parameter.grad`."""

    build: Callable[[], Any]
    gradients: Literal["none", "sum", "squares"] = "none"
    needs_norms: bool = False


CRITERIA: Mapping[str, Criterion] = {
    "L1": Criterion(lambda: tp.importance.GroupMagnitudeImportance(p=1)),
    "L2": Criterion(lambda: tp.importance.GroupMagnitudeImportance(p=2)),
    "BN scale": Criterion(tp.importance.BNScaleImportance, needs_norms=True),
    "Taylor": Criterion(tp.importance.GroupTaylorImportance, "sum"),
    "Hessian": Criterion(tp.importance.GroupHessianImportance, "squares"),
    "FPGM": Criterion(tp.importance.FPGMImportance),
    "LAMP": Criterion(tp.importance.LAMPImportance),
}


def accumulate_gradients(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Leave the sum of all batches' gradients in the model, as Taylor importance reads them."""
    model.zero_grad()
    for images, labels in batches:
        F.cross_entropy(model(images), labels).backward()


def accumulate_squares(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Leave the mean squared gradient of single images in the model, in eval mode.

    Hessian importance reads it there. Its own `accumulate_grad` is not called: in Torch-Pruning
    1.6.1 it looks parameters up by name and stores them by themselves, so that each image
    overwrites the one before, and only the last one would count.
    """
    parameters = list(model.parameters())
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    count = 0
    for images, labels in batches:
        for image, label in zip(images.split(1), labels.split(1), strict=True):
            loss = F.cross_entropy(model(image), label)
            for total, gradient in zip(squares, torch.autograd.grad(loss, parameters), strict=True):
                total.addcmul_(gradient, gradient)
        count += len(images)
    for parameter, total in zip(parameters, squares, strict=True):
        parameter.grad = total / count


class _ShortcutPruner(tp.pruner.function.BasePruningFunc):  # type: ignore[misc]
    """Tells Torch-Pruning that the two sides of a padded shortcut are not coupled."""

    def prune_out_channels(self, layer: PaddedShortcut, idxs: list[int]) -> nn.Module:
        layer_at(layer, "").cut("outputs", np.array(idxs))
        return layer

    def prune_in_channels(self, layer: PaddedShortcut, idxs: list[int]) -> nn.Module:
        layer_at(layer, "").cut("inputs", np.array(idxs))
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
    importance = CRITERIA["Taylor"].build()
    return [importance(group) for group in dependencies.get_all_groups()]


@dataclass(frozen=True)
class Rival:
    """A criterion by name, and whether a layer or the whole network is ranked."""

    criterion: str
    scope: Literal["layer", "global"]
    layers: Sequence[str]  # patterns of the names of those layers whose outputs may go

    def prunes(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.layers)


@dataclass(frozen=True)
class Goal:
    """How much of what is to stay: MACs, parameters or units."""

    measure: Callable[[nn.Module], int]
    target: float
    slack: float  # how far off is still a fair comparison


@dataclass(frozen=True)
class RivalCut:
    """A pruned network and the seconds that its ratio took: trace, importance and surgery."""

    model: nn.Module
    seconds: float


class GoalMissed(Exception):
    """No ratio of Torch-Pruning comes near enough to a goal."""


def prune_to_goal(model: nn.Module, example: Tensor, rival: Rival, goal: Goal) -> RivalCut:
    """Torch-Pruning's network closest to a goal, its pruning ratio found by bisection.

    Every layer keeps a unit at least, as in this project's own pruning: without that floor
    Torch-Pruning leaves a layer whole that it would empty, and loses far more elsewhere.

    Parameters
    ----------
    model : holds the gradients that the criterion reads; left as found.

    Raises
    ------
    GoalMissed : the closest network is farther off than the goal's slack.
    """
    low, high = 0.0, 1.0
    closest, error = RivalCut(model, 0.0), abs(goal.measure(model) - goal.target)
    for _ in range(PROBES):
        ratio = (low + high) / 2
        started = time.perf_counter()
        pruned = _cut(model, example, rival, ratio)
        seconds = time.perf_counter() - started
        left = goal.measure(pruned)
        low, high = (ratio, high) if left > goal.target else (low, ratio)
        if abs(left - goal.target) < error:
            closest, error = RivalCut(pruned, seconds), abs(left - goal.target)
        if error <= CLOSE * goal.slack:
            break
    if error > goal.slack:
        raise GoalMissed(
            f"Torch-Pruning {rival.criterion}, {rival.scope}: expected {goal.target:.0f} to stay "
            f"of {goal.measure(model)}, got {goal.measure(closest.model)} at the closest ratio; "
            "choose a milder budget."
        )
    return closest


class _WithFloor:
    """Scores of a group with its best unit out of reach."""

    def __init__(self, importance: Callable[[Any], Tensor | None]) -> None:
        self.importance = importance

    def __call__(self, group: Any) -> Tensor | None:
        scores = self.importance(group)
        if scores is not None:
            scores[scores.argmax()] = torch.inf
        return scores


def _cut(model: nn.Module, example: Tensor, rival: Rival, ratio: float) -> nn.Module:
    pruned = copy.deepcopy(model)
    for copied, parameter in zip(pruned.parameters(), model.parameters(), strict=True):
        copied.grad = parameter.grad  # deepcopy leaves gradients behind
    layers = {name: m for name, m in pruned.named_modules() if isinstance(m, WIDE)}
    chosen = [m for name, m in layers.items() if rival.prunes(name)]
    units = sum(layer.weight.shape[0] for layer in chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            pruned,
            example,
            _WithFloor(CRITERIA[rival.criterion].build()),
            global_pruning=rival.scope == "global",
            pruning_ratio=min(ratio, 1 - (len(chosen) + 0.5) / units),  # a unit for each layer
            pruning_ratio_dict=_ratios(chosen, ratio) if rival.scope == "layer" else None,
            ignored_layers=[m for name, m in layers.items() if not rival.prunes(name)],
        )
        pruner.step()
    pruned.zero_grad()
    return pruned


def _ratios(layers: Sequence[Any], ratio: float) -> dict[nn.Module, float]:
    """A ratio for each layer, which leaves it a unit; it keeps the whole part of what is left."""
    return {
        layer: max(0.0, min(ratio + SPREAD * i, 1 - 1.5 / layer.weight.shape[0]))
        for i, layer in enumerate(layers)
    }
