"""Information planes: where a layer stands between its network's inputs and the labels.

A deterministic layer tells of its inputs all that they hold, at infinite resolution (Saxe et al.
2018; Goldfeld et al. 2019, arXiv:1810.05728v4). What is measured is what is left of that once the
layer's values T are cut into cells, or have noise added; inputs X are the images of the sample,
each as likely as the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class PlanePoint(NamedTuple):
    """Nats of a layer: I(X; T) of the inputs, I(T; Y) of the labels."""

    inputs: float
    labels: float


class PlaneEstimator(NamedTuple):
    """How a point is measured, and the resolution at which it is by default."""

    measure: Callable[[Tensor, Tensor, float], PlanePoint]
    resolution: float


def measure_by_cells(values: Tensor, labels: Tensor, resolution: float) -> PlanePoint:
    """Entropies of the cells that the layer's values lie in, all units together.

    Cells are functions of the image, so that I(X; T) is their entropy and I(T; Y) no more than
    that. Blind: of many units every image has a cell of its own, and all such layers tell ln n.

    Parameters
    ----------
    values : (n, units), of n images.
    labels : (n,), classes.
    resolution : a cell's width, as a share of the range of all values of the layer.

    Source: Shwartz-Ziv and Tishby 2017, arXiv:1703.00810v3, section 3, in which 30 cells lie
    between the ends of tanh.

    Example
    -------
    >>> eight = torch.arange(8.0)[:, None]  # a layer of one unit, which tells the image's half
    >>> point = measure_by_cells(eight // 4, eight[:, 0] % 2, 0.1)
    >>> round(point.inputs, 4), round(point.labels, 4)
    (0.6931, 0.0)
    """
    low, high = values.min(), values.max()
    width = resolution * (high - low)
    codes = ((values - low) / width).floor() if width > 0 else torch.zeros_like(values)
    cells = _numbered(codes.cpu().numpy())
    classes = _numbered(labels.cpu().numpy()[:, None])
    both = _numbered(np.stack([cells, classes], 1))
    inputs = _entropy(cells)
    return PlanePoint(inputs, max(0.0, inputs + _entropy(classes) - _entropy(both)))


def measure_by_mixture(values: Tensor, labels: Tensor, resolution: float) -> PlanePoint:
    """Information of T with Gaussian noise, by the distances between the images' values.

    T is then a mixture of n Gaussians, whose entropy has a bound in closed form. I(X; T) is an
    upper bound, of at most ln n; I(T; Y) a difference of two such, of at most the labels' entropy.

    Parameters
    ----------
    values : (n, units), of n images.
    labels : (n,), classes.
    resolution : the noise's variance in every direction, as a share of the layer's variance, all
        units together.

    Source: Kolchinsky and Tracey 2017, arXiv:1706.02419v2, the bound by Kullback-Leibler
    divergences; as Saxe et al. 2018 draw planes. Departs: the noise goes with the layer's variance.

    Example
    -------
    >>> far = torch.tensor([[0.0], [0.0], [1e3], [1e3]])
    >>> point = measure_by_mixture(far, torch.tensor([0, 0, 1, 1]), 0.01)
    >>> round(point.inputs, 4), round(point.labels, 4)
    (0.6931, 0.6931)
    """
    centred = (values - values.mean(0)).double()
    variance = float(centred.square().sum(1).mean())
    if variance == 0:
        return PlanePoint(0.0, 0.0)
    nearness = -torch.cdist(centred, centred).square() / (2 * resolution * variance)
    density = _log_mean(nearness)
    of_class = torch.empty_like(density)
    for label in np.unique(labels.cpu().numpy()).tolist():
        own = labels == label
        of_class[own] = _log_mean(nearness[own][:, own])
    return PlanePoint(float(-density.mean()), float((of_class - density).mean()))


def _log_mean(nearness: Tensor) -> Tensor:
    """Logarithm of the mean of exp over each row, (n,)."""
    mean: Tensor = nearness.logsumexp(1) - math.log(nearness.shape[1])
    return mean


def _numbered(codes: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Each row's number among the different rows, (n,)."""
    _, numbers = np.unique(codes, axis=0, return_inverse=True)
    flat: npt.NDArray[np.int64] = numbers.reshape(-1)
    return flat


def _entropy(numbers: npt.NDArray[np.int64]) -> float:
    shares = np.bincount(numbers) / len(numbers)
    return float(-(shares * np.log(shares)).sum())


PLANE_ESTIMATORS: Mapping[str, PlaneEstimator] = {
    "mixture": PlaneEstimator(measure_by_mixture, 0.3),
    "cells": PlaneEstimator(measure_by_cells, 1 / 30),
}
