"""How far a pruned network's answers are from those of the dense one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mipp.distill.lessons import Answer, Lessons, answer
from mipp.inputs import Inputs
from mipp.refit.outputs import output_error, outputs_of


def loss_of(model: nn.Module, inputs: Inputs, right: Answer, stages: float) -> Tensor:
    """Squared errors as shares of variance: the mean over outputs, and over what layers read.

    Parameters
    ----------
    right : the dense network's answer, what layers read of it on the features that are kept.
    stages : weight of the second mean.
    """
    made = answer(model, inputs, dict.fromkeys(right.read))
    outputs = [share_of_variance(*pair) for pair in zip(made.outputs, right.outputs, strict=True)]
    read = [share_of_variance(made.read[name], wanted) for name, wanted in right.read.items()]
    loss = torch.stack(outputs).mean()
    return loss + stages * torch.stack(read).mean() if read else loss


def share_of_variance(made: Tensor, right: Tensor) -> Tensor:
    """Mean squared error by the variance of what is right; nothing of what does not vary."""
    spread = right.float().var(correction=0)
    return (made.float() - right.float()).square().mean() / spread.where(spread > 0, torch.inf)


def mean_error(model: nn.Module, exam: Lessons) -> float:
    """`output_error` of a network that evaluates, the mean over batches."""
    errors = []
    for place in range(len(exam)):
        inputs, right = exam.at(place)
        errors.append(output_error(outputs_of(model, inputs), right.outputs))
    return sum(errors) / len(errors)
