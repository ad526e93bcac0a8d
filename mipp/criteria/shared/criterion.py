"""What every rival criterion is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.errors import DataError
from mipp.graph import ChannelGraph, ChannelGroup
from mipp.inputs import Inputs, tensors_in
from mipp.selection.scores import GroupScores

Loss = Callable[[Any, Tensor], Tensor]  # outputs and labels of a batch -> mean over its images


@dataclass(frozen=True)
class CriterionInput:
    """A dense network, its groups, labelled calibration batches, and a seed.

    `batches` gives the same (images, labels) each time it is called, of any size: it may decide
    how much memory a criterion takes, but no score. Where labels may be missing, `unlabelled`
    gives the inputs. `loss` is cross entropy where there is none.
    """

    model: nn.Module
    graph: ChannelGraph
    batches: Callable[[], Iterable[tuple[Inputs, Tensor]]]
    seed: int
    unlabelled: Callable[[], Iterable[Inputs]] | None = None
    loss: Loss | None = None

    def inputs(self) -> Iterable[Inputs]:
        """Batches without their labels, for a criterion that has no use for these."""
        return self.unlabelled() if self.unlabelled else (x for x, _ in self.batches())

    def mean_loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The loss of one batch, the mean over its images.

        Raises
        ------
        DataError : cross entropy does not fit the outputs and labels.
        """
        return self.loss(outputs, labels) if self.loss else _cross_entropy(outputs, labels, "mean")

    def summed_loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The sum of the losses of a batch's images, whose mean is `mean_loss`."""
        if self.loss:
            return self.loss(outputs, labels) * len(labels)
        return _cross_entropy(outputs, labels, "sum")


Criterion = Callable[[CriterionInput], GroupScores]


def _cross_entropy(outputs: Any, labels: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
    """Cross entropy where it means something; of one class it is 0 whatever the outputs are."""
    try:
        if not isinstance(outputs, Tensor) or outputs.ndim < 2 or outputs.shape[1] < 2:
            raise TypeError("no scores of two classes or more")
        if labels.is_floating_point() and not _are_shares(labels):
            raise TypeError("soft labels that are no shares of 1")
        return F.cross_entropy(outputs, labels, reduction=reduction)
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        made = " and ".join(str(tuple(x.shape)) for x in tensors_in(outputs))
        kind = str(labels.dtype).removeprefix("torch.")
        raise DataError(
            "cross entropy, the loss that this criterion goes by, does not fit the network.\n"
            f"Expected outputs (n, classes) and labels (n,) from 0 to classes - 1, got outputs "
            f"{made or type(outputs).__name__} and labels {tuple(labels.shape)} of {kind} "
            f"({error}); pass loss=, which makes the mean loss of outputs and labels."
        ) from error


def _are_shares(labels: Tensor) -> bool:
    return bool((labels >= 0).all() and (labels.sum(1) - 1).abs().max() < 1e-2)


def sum_over_producers(
    group: ChannelGroup, model: nn.Module, per_output: Callable[[nn.Module], Tensor | None]
) -> npt.NDArray[np.float64]:
    """Per channel, the sum over the group's producers of a value per output feature.

    Parameters
    ----------
    per_output : values (out features,) of one producer, None for one without weights.
    """
    total = np.zeros(group.width)
    for member in group.producers:
        values = per_output(model.get_submodule(member.module))
        if values is not None:
            total += values.detach().double().cpu().numpy()[member.features].sum(1)
    return total
