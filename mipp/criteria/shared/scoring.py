"""A criterion's scores of a network, with the network and the scores checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import Criterion, CriterionInput, Loss
from mipp.errors import ConfigError, MippError, ScoreError, reason_of
from mipp.selection.scores import Scores


def score_units(method: str, criterion: Criterion, given: CriterionInput) -> Scores:
    """What a criterion says of every unit.

    Parameters
    ----------
    method : the criterion's name, for refusals.

    Raises
    ------
    ScoreError : the scores cannot be told, or cannot rank the units.
    """
    try:
        values = criterion(given)
    except ScoreError as error:
        raise ScoreError(f"method {method!r}: {error}") from error
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise ScoreError(
            f"method {method!r} cannot score the units of {type(given.model).__name__}: a matrix "
            "that it factorises has no inverse.\nExpected features of comparable scales, got "
            f"ones for which rounding leaves nothing: {str(error).splitlines()[0]}; bring the "
            "weights and inputs to usual scales, or choose another method."
        ) from error
    except (MippError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of a criterion or a loss that somebody brings, or of autograd
        raise ScoreError(
            f"method {method!r} cannot score the units of {type(given.model).__name__}.\nExpected "
            f"scores, got {reason_of(error)}; if the loss has no gradient, forward detaches its "
            "outputs, or loss= is no differentiable mean of a batch; else correct the method."
        ) from error
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
