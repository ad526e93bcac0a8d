"""The questions that every estimator answers while channels are taken away one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Elimination(Protocol):
    """Backward elimination of one pair's channels, all present at first."""

    def loss(self, channel: int) -> float:
        """Information in nats that goes with this channel, given all not yet dropped."""

    def samples(self, channel: int) -> Tensor:
        """Independent estimates of `loss` beyond that of a column known to tell nothing.

        Shape (repeats,); only estimators prepared for a test of significance have any.
        """

    def losses(self) -> Tensor:
        """`loss` of every channel, (channels,); meaningless for channels already dropped."""

    def consider(self, channels: Sequence[int]) -> None:
        """These are asked about next, in this order: what can be computed for all at once is."""

    def drop(self, channel: int) -> None:
        """Remove the channel; later answers are conditional on its absence."""

    def settle(self, channel: int) -> None:
        """Keep the channel for good: it is never asked about again."""


class PairInformation(Protocol):
    """Answers of one estimator for one pair, once it is prepared."""

    def single(self, targets: Tensor) -> Tensor:
        """Information of each channel alone with the target rows, nats, (channels,)."""

    def joint(self, targets: Tensor) -> float:
        """Information of all channels together with the target rows, nats."""

    def eliminate(self, targets: Tensor, order: Sequence[int] | None) -> Elimination:
        """A backward elimination against the target rows."""
