"""The closed form on disjoint folds of the rows: independent samples for a significance test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mipp.errors import EstimationError, option
from mipp.information.gaussian.state import PairState, prepare_rows
from mipp.information.null_column import null_column
from mipp.information.protocols import OrderedElimination

LEAST = 10  # rows per fold


@dataclass(frozen=True)
class FoldedInformation:
    """Answers of the closed form with a sample per fold.

    Parameters
    ----------
    whole : the state of all rows.
    rows : reads them: x (n, channels, block) and y (n, m). They are held in memory while a group
        is decided.
    folds, ridge : number of folds, and the ridge of their states.
    seed : of the null column.
    """

    whole: PairState
    rows: Callable[[], tuple[Tensor, Tensor]]
    folds: int
    ridge: float
    seed: int

    def single(self, targets: Tensor) -> Tensor:
        """Information of each channel alone with the given target rows; nats, (channels,)."""
        return self.whole.single(targets)

    def joint(self, targets: Tensor) -> float:
        """Information of all channels with the given target rows, in nats."""
        return self.whole.joint(targets)

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> FoldedElimination:
        """Backward elimination in all folds at once; parameters as for the closed form's.

        Raises
        ------
        EstimationError : there are fewer than 10 rows per fold.
        """
        x, y = self.rows()
        _require_rows(len(x), self.folds)
        null = self.whole.channels
        noise = null_column(x, torch.Generator().manual_seed(self.seed))
        states = self._states(torch.cat([x, noise], 1), y[:, targets.to(y.device)])
        every = torch.arange(len(targets), device="cpu")
        folds = [state.eliminate_in_order(every, [*order, null], watched=1) for state in states]
        return FoldedElimination(folds, null)

    def _states(self, x: Tensor, y: Tensor) -> list[PairState]:
        """States of disjoint folds of the rows, in their order: an image is in one fold."""
        settings = {"ridge": self.ridge, "resolution": self.whole.resolution}
        return [
            prepare_rows(rows, targets, x.shape[1], **settings)
            for rows, targets in zip(
                x.tensor_split(self.folds), y.tensor_split(self.folds), strict=True
            )
        ]


def _require_rows(n: int, folds: int) -> None:
    if n < LEAST * folds:
        raise EstimationError(
            f"{n} rows are too few for {folds} disjoint folds ({option('Gaussian.repeats')}).\n"
            f"Expected at least {LEAST * folds}, got {n}; raise "
            f"{option('Mipp.rows or images')}."
        )


class FoldedElimination:
    """Every fold's elimination, asked and told the same things."""

    def __init__(self, folds: Sequence[OrderedElimination], null: int) -> None:
        self._folds = folds
        self._null = null

    def samples(self, channel: int) -> Tensor:
        """Nats that go with this channel, beyond the null column's, in each fold."""
        null = [fold.loss(self._null) for fold in self._folds]
        here = [fold.loss(channel) for fold in self._folds]
        kind: Any = {"dtype": torch.float64, "device": "cpu"}
        return torch.tensor(here, **kind) - torch.tensor(null, **kind)

    def drop(self, channel: int) -> None:
        for fold in self._folds:
            fold.drop(channel)

    def settle(self, channel: int) -> None:
        for fold in self._folds:
            fold.settle(channel)
