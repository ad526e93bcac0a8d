"""Torch-Pruning on any network, to a share of its operations, as a careful user would run it.

Layers that make the outputs are left alone, heads of attention are named, whole heads go, and the
numbers that forward lays heads out by are brought up to date afterwards.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch_pruning as tp
from torch import Tensor, nn

from mipp.inputs import Inputs, tensors_in

PROBES = 5  # ratios that are tried, at most
NEAR = 0.01  # of the share: near enough to stop
NUMBERS = ("num_heads", "num_attention_heads", "n_heads", "heads", "num_attn_heads")
PROJECTIONS = ("q", "k", "v", "qkv", "kv", *(f"{part}_proj" for part in "qkv"))
PROJECTIONS += ("query", "key", "value", "q_norm_proj", "kv_proj")
PARTS = {"qkv": 3, "kv": 2}  # projections in one layer
SIZES = ("head_dim", "attention_head_size", "head_size")
Heads = Literal["whole", "thinner"]
HEADS: tuple[Heads, ...] = ("whole", "thinner")


@dataclass
class Cut:
    """A pruned network, the share of operations that it kept, and what went where."""

    model: nn.Module
    share: float
    zeroed: dict[str, list[int]] = field(default_factory=dict)  # layer -> input features that went
    uncounted: dict[str, list[int]] = field(default_factory=dict)  # norm -> features that went


def prune_to_share(
    model: nn.Module,
    inputs: Inputs,
    share: float,
    flops: Callable[[nn.Module], int],
    outputs: Sequence[str],
    heads: Heads = "whole",
) -> Cut:
    """The network whose share of operations comes nearest, its ratio found by a secant.

    Parameters
    ----------
    flops : of a network.
    outputs : names of the layers that make the network's outputs.
    heads : of attentions: some of them go, or all become thinner.

    Raises
    ------
    Exception : whatever Torch-Pruning or the network pruned by it raises.
    """
    full, closest = flops(model), None
    ratio, low, high = 1 - share**0.5, 0.0, 1.0
    for _ in range(PROBES):
        cut = prune_by_ratio(model, inputs, ratio, outputs, heads)
        cut.share = flops(cut.model) / full
        if closest is None or abs(cut.share - share) < abs(closest.share - share):
            closest = cut
        if abs(cut.share - share) <= NEAR:
            break
        low, high = (ratio, high) if cut.share > share else (low, ratio)
        aimed = 1 - (1 - ratio) * (share / max(cut.share, 1e-6)) ** 0.5
        ratio = aimed if low < aimed < high else (low + high) / 2
    assert closest is not None
    return closest


def prune_by_ratio(
    model: nn.Module, inputs: Inputs, ratio: float, outputs: Sequence[str], heads: Heads
) -> Cut:
    """A copy of the network, every layer pruned by magnitude to that ratio."""
    pruned = copy.deepcopy(model).eval()
    projections = dict(_projections(pruned))
    cut = Cut(pruned, 1.0)
    example = inputs if not isinstance(inputs, tuple) else list(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            pruned,
            example,
            tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[pruned.get_submodule(name) for name in outputs],
            in_channel_groups={},
            out_channel_groups={},
            num_heads={layer: number for layer, (_, _, number) in projections.items()},
            round_to=max(
                (m.num_heads for m in pruned.modules() if isinstance(m, nn.MultiheadAttention)),
                default=None,
            ),
            prune_num_heads=heads == "whole",
            prune_head_dims=heads == "thinner",
            head_pruning_ratio=ratio if heads == "whole" else 0.0,
            forward_fn=_forward,
            output_transform=lambda out: tensors_in(out),
        )
        removed = _Removed(pruned)
        for group in pruner.step(interactive=True):
            removed.note(pruner.DG, group)
            group.prune()
    _renumber(projections, pruner.num_heads)
    if hasattr(pruned, "hidden_dim") and hasattr(pruned, "conv_proj"):  # torchvision's ViT
        pruned.hidden_dim = pruned.conv_proj.out_channels
    cut.zeroed, cut.uncounted = removed.read, removed.carried
    return cut


def _forward(model: nn.Module, example: Any) -> Any:
    return model(*example) if isinstance(example, list) else model(example)


def _projections(model: nn.Module) -> Iterator[tuple[nn.Module, tuple[nn.Module, str, int]]]:
    """Layer -> the attention that it belongs to, the name that it has there, the heads."""
    for module in model.modules():
        number = next((v for a in NUMBERS if type(v := getattr(module, a, 0)) is int and v), 0)
        for name, child in module.named_children():
            if number and name in PROJECTIONS and isinstance(child, (nn.Linear, nn.Conv2d)):
                yield child, (module, name, number)


def _renumber(
    projections: Mapping[nn.Module, tuple[nn.Module, str, int]], heads: Mapping[nn.Module, int]
) -> None:
    """Heads and sizes of the attentions as their layers now are."""
    for layer, (attention, name, before) in projections.items():
        width = layer.weight.shape[0] // PARTS.get(name, 1)
        now = heads[layer]
        for attribute in NUMBERS:
            if getattr(attention, attribute, None) == before:
                setattr(attention, attribute, now)
        for attribute in SIZES:
            if isinstance(getattr(attention, attribute, None), int):
                setattr(attention, attribute, width // max(now, 1))
        for attribute in ("all_head_size", "attn_dim", "inner_dim"):
            if isinstance(getattr(attention, attribute, None), int):
                setattr(attention, attribute, width)


class _Removed:
    """Which features of the dense network's layers have gone, group by group."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.left: dict[tuple[str, bool], np.ndarray] = {}
        self.read: dict[str, list[int]] = {}
        self.carried: dict[str, list[int]] = {}

    def note(self, dependencies: Any, group: Any) -> None:
        """Take down what a group is about to remove."""
        for dependency, indices in group:
            module = dependency.target.module
            if module not in self.names or isinstance(module, Tensor):
                continue
            reads = dependencies.is_in_channel_pruning_fn(dependency.handler)
            norm = isinstance(module, (nn.LayerNorm, nn.GroupNorm))
            width = dependencies.get_in_channels(module) if reads else None
            if norm:
                width = dependencies.get_out_channels(module)
            elif not reads or width is None:
                continue
            name = self.names[module]
            left = self.left.get((name, reads), np.arange(width))
            gone = sorted(set(map(int, indices)))
            (self.carried if norm else self.read).setdefault(name, []).extend(left[gone].tolist())
            self.left[name, reads] = np.delete(left, gone)
