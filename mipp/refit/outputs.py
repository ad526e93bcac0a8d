"""How far a network's outputs are from those of another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call, tensors_in


def outputs_of(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """All tensors of numbers that a network puts out."""
    with evaluating(model), torch.no_grad():
        return [t for t in tensors_in(call(model, inputs)) if t.is_floating_point()]


def output_error(outputs: list[Tensor], wanted: list[Tensor]) -> float:
    """Squared error as a share of what is wanted's variance, summed over tensors.

    >>> output_error([torch.tensor([1.0, 3.0])], [torch.tensor([0.0, 2.0])])
    1.0
    """
    error = 0.0
    for made, right in zip(outputs, wanted, strict=True):
        apart, spread = made.double() - right.double(), right.double() - right.double().mean()
        error += float(apart.square().mean() / spread.square().mean().clamp(min=1e-300))
    return error
