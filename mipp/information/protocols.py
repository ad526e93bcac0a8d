"""The questions that an estimator answers while channels are taken away one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


class Elimination(Protocol):
    """Backward elimination of one pair's channels, all present at first, in any order."""

    def loss(self, channel: int) -> float:
        """Information in nats that goes with this channel, given all not yet dropped."""

    def losses(self) -> Tensor:
        """`loss` of every channel, (channels,); meaningless for channels already dropped."""

    def consider(self, channels: Sequence[int]) -> None:
        """These are asked about next, in this order: what can be computed for all at once is."""

    def drop(self, channel: int) -> None:
        """Remove the channel; later answers are conditional on its absence."""


class OrderedElimination(Protocol):
    """Backward elimination in an order: each channel is asked about, then dropped or kept."""

    def loss(self, channel: int) -> float:
        """Information in nats that goes with the channel decided next."""

    def drop(self, channel: int) -> None:
        """Remove it; later answers are conditional on its absence."""

    def settle(self, channel: int) -> None:
        """Keep it for good: it is never asked about again."""


class SampledElimination(Protocol):
    """The same for a test of significance."""

    def samples(self, channel: int) -> Tensor:
        """Independent estimates of what goes with the channel decided next, (samples,), nats.

        They are beyond those of a column known to tell nothing.
        """

    def drop(self, channel: int) -> None:
        """Remove the channel that is decided next."""

    def settle(self, channel: int) -> None:
        """Keep it for good."""


class PairInformation(Protocol):
    """Answers of one estimator for one pair, once it is prepared."""

    def single(self, targets: Tensor) -> Tensor:
        """Information of each channel alone with the target rows, nats, (channels,)."""

    def joint(self, targets: Tensor) -> float:
        """Information of all channels together with the target rows, nats."""

    def eliminate(self, targets: Tensor) -> Elimination:
        """A backward elimination against the target rows."""

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> OrderedElimination:
        """One that decides the channels in this order, which is often cheaper."""


@runtime_checkable
class WarmStarting(Protocol):
    """Information whose eliminations, one after the other, have much in common."""

    def warm_started(self) -> PairInformation:
        """The same answers; each elimination makes use of those before, and one is used at a time.

        What they leave is held in memory as long as what is returned.
        """


class SampledInformation(Protocol):
    """Answers of an estimator that was prepared for a test of significance."""

    def single(self, targets: Tensor) -> Tensor:
        """Information of each channel alone with the target rows, nats, (channels,)."""

    def joint(self, targets: Tensor) -> float:
        """Information of all channels together with the target rows, nats."""

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> SampledElimination:
        """A backward elimination that decides the channels in this order."""


Information = Mapping[str, PairInformation | SampledInformation]  # by pair
