"""Batch-norm statistics of a pruned network, from its own activations."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call
from mipp.layers import layer_of


def recalibrate(model: nn.Module, batches: Iterable[Inputs]) -> None:
    """Replace every batch-norm's running statistics by those of these inputs, in place.

    Means and variances are averaged over batches with equal weight; a network without
    batch-norm is left as it is.
    """
    layers = [layer for layer in map(layer_of, model.modules()) if layer is not None]
    norms = [layer.module for layer in layers if layer.statistics is not None]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with evaluating(model), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.training = True
        for inputs in batches:
            call(model, inputs)
        model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
