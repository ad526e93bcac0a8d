"""Least squares front to back: each reader from what it reads now to what it made at first."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.readers import cut, lost, weight_of, write
from mipp.activations import Sampling
from mipp.activations.capture import Tap
from mipp.criteria.shared.criterion import CriterionInput
from mipp.evaluation import evaluating
from mipp.graph import LayerPair
from mipp.information.moments import MomentSums
from mipp.inputs import Inputs, call, count
from mipp.layers import layer_at
from mipp.refit.watcher import Watcher
from mipp.selection.selection import Selection
from mipp.settings import Refit

SMALL = 1e-6  # a batch-norm's factor, next to nothing


class Products(NamedTuple):
    """Mean products about zero of a reader's inputs, all its channels, and its dense outputs.

    Inputs are those in the network as it is pruned so far; the features of a channel are its
    `block`.
    """

    xx: Tensor  # (channels * block, channels * block), float64
    xy: Tensor  # (channels * block, outputs), less the layer's own bias
    block: int


class Reduced(NamedTuple):
    """Which channels a reader keeps, and its weights for them."""

    kept: np.ndarray  # sorted
    weight: Tensor  # (kept * block, outputs)


Target = Literal["output", "sum"]
Reduce = Callable[[Products, Tensor, int], Reduced]


def one_after_the_other(
    given: CriterionInput,
    widths: Selection,
    reduce: Reduce,
    *,
    method: str,
    target: Target,
) -> tuple[nn.Module, Selection]:
    """The network cut, its units chosen and its readers fitted from the first block to the last.

    Parameters
    ----------
    widths : says how many channels each group keeps.
    target : what a reader made at first, or what makes the sum that this went into, such as that
        with a shortcut, what it was.
    reduce : (products, dense weights (channels * block, outputs), channels to keep) -> which.
    """
    model, kept = copy.deepcopy(given.model), dict(widths.kept)
    for pair in lost(given.graph, widths):
        before = weight_of(given.model, pair)
        outputs, channels, block = before.shape
        dense = before.permute(1, 2, 0).flatten(0, 1)  # (channels * block, outputs)
        reduced = reduce(_products(given, model, pair, block, target), dense, len(kept[pair.group]))
        kept[pair.group] = reduced.kept
        after = torch.zeros(channels, block, outputs, dtype=before.dtype)
        after[torch.from_numpy(reduced.kept)] = reduced.weight.reshape(-1, block, outputs)
        write(model, given.graph, pair, after.permute(2, 0, 1), before.new_zeros(outputs))
    selection = Selection(kept, widths.width, method, widths.provenance)
    return cut(model, selection, given), selection


def _products(
    given: CriterionInput, model: nn.Module, pair: LayerPair, block: int, target: Target
) -> Products:
    images = sum(count(inputs) for inputs in given.inputs())
    sampling = Sampling(Refit.rows, images, given.seed)
    factor = _factor(given, pair) if target == "sum" and pair.consumer in given.graph.sums else None
    now, dense = (_Reader(m, given, pair, sampling) for m in (model, given.model))
    sums, bias = MomentSums(), layer_at(given.model, pair.consumer).map.bias
    for inputs in given.inputs():
        seen, wanted = now.rows(inputs), dense.rows(inputs)
        y = wanted.y if bias is None else wanted.y - bias.detach()
        if factor is not None:
            y = y + (wanted.other - seen.other) / factor
        sums.add(seen.x, y)
    found = sums.moments()
    return Products(
        found.xx / found.n + torch.outer(found.x_mean, found.x_mean),
        found.xy / found.n + torch.outer(found.x_mean, found.y_mean),
        block,
    )


def _factor(given: CriterionInput, pair: LayerPair) -> Tensor | float:
    """What a unit of the reader's outputs is in the sum that they go into."""
    name = given.graph.norm_after.get(pair.consumer)
    norm = layer_at(given.model, name).statistics if name else None
    if norm is None:
        return 1.0
    scale = 1.0 if norm.scale is None else norm.scale.detach()
    factor = scale / (norm.variance + norm.eps).sqrt()
    return torch.where(factor.abs() < SMALL, torch.inf, factor)  # it can make up for nothing


class _Rows(NamedTuple):
    """At sampled places, what a reader reads and makes, and the other side of its sum."""

    x: Tensor  # (n, channels, block)
    y: Tensor  # (n, outputs)
    other: Tensor  # the same; y itself where there is no sum


class _Reader:
    """Draws a reader's rows as its network runs; two of the same sampling draw the same places."""

    def __init__(
        self, model: nn.Module, given: CriterionInput, pair: LayerPair, sampling: Sampling
    ) -> None:
        self.model, self.graph, self.pair = model, given.graph, pair
        self.tap = Tap(layer_at(model, pair.consumer), sampling, 0, pair.positions)

    def rows(self, inputs: Inputs) -> _Rows:
        found: dict[str, Tensor] = {}

        def made(_: str, x: Tensor, y: Tensor) -> None:
            found["at"] = at = self.tap.draw(y)
            found["x"], found["y"] = self.tap.inputs(x, at, y), self.tap.outputs(y, at)

        def summed(_: str, other: Tensor) -> None:
            found["other"] = self.tap.outputs(other, found["at"])

        name = self.pair.consumer
        self.tap.restart()
        sums = [name] if name in self.graph.sums else []
        watcher = Watcher(self.model, self.graph, [name], sums, made, summed)
        with evaluating(self.model), torch.no_grad(), watcher:
            call(self.model, inputs)
        x, features = found["x"], torch.from_numpy(self.pair.features.ravel())
        x = x[:, features].reshape(len(x), len(self.pair.features), -1)
        return _Rows(x, found["y"], found.get("other", found["y"]))


def features(channels: np.ndarray, block: int) -> Tensor:
    """Rows of these channels: 2 and 5 of three features each are 6, 7, 8, 15, 16, 17."""
    return torch.from_numpy((channels[:, None] * block + np.arange(block)).ravel())
