"""A criterion's scores of a network, with the network and the scores checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mipp.criteria.shared.criterion import Criterion, CriterionInput, Loss
from mipp.errors import ConfigError, ScoreError
from mipp.selection.scores import Scores


def score_units(method: str, criterion: Criterion, given: CriterionInput) -> Scores:
    """What a criterion says of every unit.

    Parameters
    ----------
    method : the criterion's name, for refusals.

    Raises
    ------
    ScoreError : a layer has weights that are not finite, or the scores cannot rank the units.
    """
    _require_finite(given.model, method)
    try:
        values = criterion(given)
    except ScoreError as error:
        raise ScoreError(f"method {method!r}: {error}") from error
    return Scores(values, given.graph.widths, f"method {method!r}")


class AskedLoss:
    """A loss that remembers whether a criterion went by it."""

    def __init__(self, loss: Loss) -> None:
        self._loss, self._asked = loss, False

    def __call__(self, outputs: Any, labels: Tensor) -> Tensor:
        self._asked = True
        return self._loss(outputs, labels)

    def require_asked(self, method: str) -> None:
        """Refuse a loss that changed nothing.

        Raises
        ------
        ConfigError : nobody asked for it.
        """
        if not self._asked:
            raise ConfigError(
                f"loss has no effect with method={method!r}, which goes by none.\nExpected it to "
                "be left out, got a function; leave it out, or choose a method of the loss, such "
                "as taylor."
            )


def _require_finite(model: nn.Module, method: str) -> None:
    """Of buffers only NaN is refused: a mask may well hold infinities."""
    wrong = [(name, ~tensor.isfinite()) for name, tensor in model.named_parameters()]
    wrong += [(name, tensor.isnan()) for name, tensor in model.named_buffers()]
    for name, places in wrong:
        if bool(places.any()):
            layer, _, tensor = name.rpartition(".")
            raise ScoreError(
                f"method {method!r} cannot score layer {layer!r}: its {tensor} is not finite.\n"
                f"Expected numbers, got NaN or infinity in {int(torch.sum(places))} of "
                f"{places.numel()}; check the weights, their training may have diverged."
            )
