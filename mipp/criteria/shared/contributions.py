"""What each channel contributes to the outputs of the layers that read it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.pair_sums import sum_pairs
from mipp.graph import LayerPair
from mipp.information.moments import Moments
from mipp.layers import Layer, layer_at

Gram = npt.NDArray[np.float64]


def contribution_grams(given: CriterionInput) -> dict[str, Gram]:
    """By group, the products of its channels' contributions, (width, width).

    The contribution of a channel to an output is its part of the layer's sum. Products are means
    over sampled rows, added up over all outputs of all layers that read the group; a set of
    channels thus contributes the sum of its rows and columns, squared and summed over outputs.
    """
    sums = sum_pairs(given, lambda x, y: (x, y[:, :0]))
    grams = {name: np.zeros((w, w)) for name, w in given.graph.widths.items()}
    for pair in given.graph.pairs:
        consumer = layer_at(given.model, pair.consumer)
        grams[pair.group] += _gram(weights_read(consumer, pair), sums.pop(pair.name))
    return grams


def _gram(weights: Tensor, sums: Moments) -> Gram:
    """Products (channels, channels) from weights (targets, channels, block)."""
    _, channels, block = weights.shape
    flat = weights.flatten(1).double()
    second = sums.xx / sums.n + torch.outer(sums.x_mean, sums.x_mean)  # about zero, not the mean
    second *= flat.T @ flat
    gram: Gram = second.view(channels, block, channels, block).sum((1, 3)).cpu().numpy()
    return (gram + gram.T) / 2


def weights_read(consumer: Layer, pair: LayerPair) -> Tensor:
    """The consumer's weights of the pair's features, (targets, channels, block)."""
    linear = consumer.map
    assert linear is not None
    whole = linear.weight.detach()
    mine = whole[:, torch.from_numpy(pair.features.ravel()).to(whole.device)]
    return mine.reshape(len(mine), len(pair.features), -1)
