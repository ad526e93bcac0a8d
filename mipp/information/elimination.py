"""The questions that every estimator answers while channels are taken away one by one."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Elimination(Protocol):
    """Backward elimination of one pair's channels, all present at first."""

    def loss(self, channel: int) -> float:
        """Information in nats that goes with this channel, given all not yet dropped."""

    def losses(self) -> Tensor:
        """`loss` of every channel, (channels,); meaningless for channels already dropped."""

    def drop(self, channel: int) -> None:
        """Remove the channel; later answers are conditional on its absence."""

    def settle(self, channel: int) -> None:
        """Keep the channel for good: it is never asked about again."""
