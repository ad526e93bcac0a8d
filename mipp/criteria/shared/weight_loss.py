"""The loss as a function of the weights that make units, with its first two derivatives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.filters import weight_names
from mipp.criteria.shared.samples import mean_over_images
from mipp.criteria.shared.unit_gates import (
    Gates,
    Tensors,
    differentiable,
    gated,
    run_with,
    tensors_of,
)
from mipp.inputs import Inputs


class WeightLoss:
    """Mean loss over the calibration images, by all convolution and linear weights.

    Parameters
    ----------
    gates : of the units, held where they are; None: all open.
    images : so many from the first; None: all.
    temperature : what the network's outputs are divided by before cross entropy; another loss
        takes them as they are.
    """

    def __init__(
        self,
        given: CriterionInput,
        gates: Gates | None = None,
        *,
        images: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        self._given, self._gates, self._images = given, gates, images
        self._temperature = temperature if given.loss is None else 1.0
        self._tensors = tensors_of(given.model)
        self.weights = {
            name: self._tensors[name].clone().requires_grad_(True)
            for name in weight_names(given.model).values()
        }

    def gradient(self) -> dict[str, Tensor]:
        """By name of the weight."""
        with differentiable(self._given.model):
            return self._named(mean_over_images(self._given, self._slopes, self._images))

    def hessian_times(self, vector: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Product of the Hessian with a vector that has an entry for every weight."""

        def product(inputs: Inputs, labels: Tensor) -> tuple[Tensor, ...]:
            slopes = self._named(self._slopes(inputs, labels, keep=True))
            along = torch.stack([(slopes[n] * vector[n]).sum() for n in slopes]).sum()
            return torch.autograd.grad(along, list(self.weights.values()), materialize_grads=True)

        with differentiable(self._given.model):
            return self._named(mean_over_images(self._given, product, self._images))

    def hessian(self) -> Tensor:
        """All second derivatives (d, d), float64, the weights one after the other, flat."""
        by = list(self.weights.values())

        def rows(inputs: Inputs, labels: Tensor) -> list[Tensor]:
            slopes = torch.cat([s.flatten() for s in self._slopes(inputs, labels, keep=True)])
            found = [
                torch.autograd.grad(one, by, retain_graph=True, materialize_grads=True)
                for one in slopes
            ]
            return [torch.stack([torch.cat([p.flatten() for p in row]) for row in found])]

        with differentiable(self._given.model):
            (whole,) = mean_over_images(self._given, rows, self._images)
        return (whole + whole.T).double() / 2

    def _slopes(self, inputs: Inputs, labels: Tensor, keep: bool = False) -> tuple[Tensor, ...]:
        given = self._given
        tensors: Tensors = self._tensors | self.weights
        if self._gates is not None:
            tensors = gated(given.model, given.graph, self._gates, tensors)
        outputs = run_with(given.model, tensors, inputs)
        if self._temperature != 1 and isinstance(outputs, Tensor):
            outputs = outputs / self._temperature
        loss = given.summed_loss(outputs, labels)
        by = list(self.weights.values())
        return torch.autograd.grad(loss, by, create_graph=keep, materialize_grads=True)

    def _named(self, values: list[Tensor] | tuple[Tensor, ...]) -> dict[str, Tensor]:
        return dict(zip(self.weights, values, strict=True))
