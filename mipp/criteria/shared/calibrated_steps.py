"""Steps of gradient descent on calibration images that leave no trace in the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.unit_gates import Tensors, differentiable, run_with
from mipp.inputs import Inputs
from mipp.layers import layer_of


@contextmanager
def normalising_by_batch(model: nn.Module) -> Iterator[None]:
    """Within the block, batch norms use the statistics of the batch, all else is in eval mode.

    Running statistics are written to; run the network with copies of them.
    """
    with differentiable(model):
        layers = [layer for layer in map(layer_of, model.modules()) if layer is not None]
        norms = [layer.module for layer in layers if layer.statistics is not None]
        for norm in norms:
            norm.training = True
        try:
            yield
        finally:
            for norm in norms:
                norm.training = False


def copied_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the network's buffers by full name, which a run may write to."""
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def loss_with(given: CriterionInput, tensors: Tensors, inputs: Inputs, labels: Tensor) -> Tensor:
    """Mean loss of one batch with these parameters and buffers."""
    return given.mean_loss(run_with(given.model, tensors, inputs), labels)
