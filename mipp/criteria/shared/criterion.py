"""What every rival criterion is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mipp.graph import ChannelGraph, ChannelGroup
from mipp.inputs import Inputs


@dataclass(frozen=True)
class CriterionInput:
    """A dense network, its groups, labelled calibration batches, and a seed.

    `batches` gives the same (images, labels) each time it is called. Where labels may be
    missing, `unlabelled` gives the inputs.
    """

    model: nn.Module
    graph: ChannelGraph
    batches: Callable[[], Iterable[tuple[Inputs, Tensor]]]
    seed: int
    unlabelled: Callable[[], Iterable[Inputs]] | None = None

    def inputs(self) -> Iterable[Inputs]:
        """Batches without their labels, for a criterion that has no use for these."""
        return self.unlabelled() if self.unlabelled else (x for x, _ in self.batches())


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
