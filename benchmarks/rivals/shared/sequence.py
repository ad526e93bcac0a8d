"""Least squares front to back: each reader from what it reads now to what it made at first."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.shared.readers import cut, lost, weight_of, write
from mipp.activations import Sampling, capture_rows
from mipp.criteria.shared.criterion import CriterionInput
from mipp.graph import LayerPair
from mipp.information.moments import MomentSums
from mipp.inputs import count
from mipp.layers import layer_at
from mipp.selection.selection import Selection
from mipp.settings import Refit


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


Reduce = Callable[[Products, Tensor, int], Reduced]


def one_after_the_other(
    given: CriterionInput, widths: Selection, reduce: Reduce, method: str
) -> tuple[nn.Module, Selection]:
    """The network cut, its units chosen and its readers fitted from the first block to the last.

    Parameters
    ----------
    widths : says how many channels each group keeps.
    reduce : (products, dense weights (channels * block, outputs), channels to keep) -> which.
    """
    model, kept = copy.deepcopy(given.model), dict(widths.kept)
    for pair in lost(given.graph, widths):
        before = weight_of(given.model, pair)
        outputs, channels, block = before.shape
        dense = before.permute(1, 2, 0).flatten(0, 1)  # (channels * block, outputs)
        reduced = reduce(_products(given, model, pair, block), dense, len(kept[pair.group]))
        kept[pair.group] = reduced.kept
        after = torch.zeros(channels, block, outputs, dtype=before.dtype)
        after[torch.from_numpy(reduced.kept)] = reduced.weight.reshape(-1, block, outputs)
        write(model, given.graph, pair, after.permute(2, 0, 1), before.new_zeros(outputs))
    selection = Selection(kept, widths.width, method, widths.provenance)
    return cut(model, selection, given), selection


def _products(given: CriterionInput, model: nn.Module, pair: LayerPair, block: int) -> Products:
    images = sum(count(inputs) for inputs in given.inputs())
    sampling = Sampling(Refit.rows, images, given.seed)
    sums = MomentSums()
    passes = (capture_rows(m, [pair], given.inputs(), sampling) for m in (model, given.model))
    for now, dense in zip(*passes, strict=True):
        sums.add(now[pair.name][0], dense[pair.name][1] - _bias(given.model, pair))
    found = sums.moments()
    return Products(
        found.xx / found.n + torch.outer(found.x_mean, found.x_mean),
        found.xy / found.n + torch.outer(found.x_mean, found.y_mean),
        block,
    )


def _bias(model: nn.Module, pair: LayerPair) -> Tensor | float:
    linear = layer_at(model, pair.consumer).map
    return 0.0 if linear is None or linear.bias is None else linear.bias.detach()


def features(channels: np.ndarray, block: int) -> Tensor:
    """Rows of these channels: 2 and 5 of three features each are 6, 7, 8, 15, 16, 17."""
    return torch.from_numpy((channels[:, None] * block + np.arange(block)).ravel())
