"""Steps of gradient descent on calibration images that leave no trace in the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import images_in_batches
from mipp.criteria.shared.unit_gates import (
    Tensors,
    differentiable,
    run_with,
    tensors_of,
    tied_names,
)
from mipp.evaluation import norms_with_statistics
from mipp.inputs import Inputs

Weights = dict[str, Tensor]  # full name -> parameter that is trained, and what is trained with them


@dataclass(frozen=True)
class Descent:
    """Stochastic gradient descent with momentum over the first calibration images.

    Parameters
    ----------
    passes : over these images; half a pass is half of their batches, and at least one.
    """

    images: int = 1024
    passes: float = 4
    batch: int = 64
    rate: float = 0.01
    momentum: float = 0.9


@contextmanager
def normalising_by_batch(model: nn.Module) -> Iterator[None]:
    """Within the block, batch norms use the statistics of the batch, all else is in eval mode.

    Running statistics are written to; run the network with copies of them.
    """
    with differentiable(model):
        for norm in norms_with_statistics(model):
            norm.training = True  # until `differentiable` ends
        yield


def copied_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the network's buffers by full name, which a run may write to."""
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def loss_with(given: CriterionInput, tensors: Tensors, inputs: Inputs, labels: Tensor) -> Tensor:
    """Mean loss of one batch with these parameters and buffers."""
    return given.mean_loss(run_with(given.model, tensors, inputs), labels)


def train_copies(
    given: CriterionInput,
    descent: Descent,
    *,
    start: Tensors | None = None,
    within: Callable[[Tensors], Tensors] = lambda tensors: tensors,
    penalty: Callable[[Weights], Tensor] | None = None,
    after: Callable[[Weights, float, float], None] = lambda weights, before, now: None,
) -> Weights:
    """Weights after training from those given, or from `start`; batch norms go by the batch.

    Parameters
    ----------
    start : every parameter, one that is tied by its first name, and whatever else is trained.
    within : from all parameters and buffers, and what else is trained, to what the network
        runs with.
    penalty : what is added to the loss of every batch.
    after : changes weights in place after a step that took training from the share `before` to
        the share `now` of all steps. A penalty on weights is exact so, however few the steps are.
    """
    model = given.model
    fixed = tensors_of(model) | copied_buffers(model)
    tied = tied_names(model)
    if start is None:
        start = {name: fixed[name] for name, _ in model.named_parameters()}
    weights = {name: value.detach().clone().requires_grad_(True) for name, value in start.items()}
    optimiser = torch.optim.SGD(list(weights.values()), descent.rate, descent.momentum)
    batches = images_in_batches(given, descent.images, descent.batch)
    steps = max(1, round(descent.passes * len(batches)))
    with normalising_by_batch(model):
        for step in range(steps):
            tensors = within(fixed | weights | {name: weights[own] for name, own in tied.items()})
            own = {name: tensors[name] for name in fixed}
            loss = loss_with(given, own, *batches[step % len(batches)])
            if penalty is not None:
                loss = loss + penalty(weights)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                after(weights, step / steps, (step + 1) / steps)
    return {name: weight.detach() for name, weight in weights.items()}
