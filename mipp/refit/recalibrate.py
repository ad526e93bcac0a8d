"""Batch-norm statistics of a pruned network, from its own activations."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mipp.evaluation import evaluating, norms_training, norms_with_statistics
from mipp.inputs import Inputs, call


def recalibrate(model: nn.Module, batches: Iterable[Inputs]) -> None:
    """Replace every batch-norm's running statistics by those of these inputs, in place.

    Means and variances are averaged over batches with equal weight; a network without
    batch-norm is left as it is.
    """
    norms = norms_with_statistics(model)
    if not norms:
        return
    with evaluating(model), norms_training(norms, momentum=None), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
        for inputs in batches:
            call(model, inputs)
