"""An estimator of any measure of information: channels are left out, and it is measured again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mipp.direct_settings import Direct
from mipp.errors import EstimationError, option
from mipp.information.estimators import Estimator, PairData
from mipp.information.null_column import null_column
from mipp.information.protocols import Elimination, PairInformation
from mipp.progress import track

Measure = Callable[[Tensor, Tensor, Any, int], float]
"""Nats between x (n, d) and y (n, m), standardised, float64; by the settings and a seed."""
LEAST = 20  # rows of a measurement


@dataclass(frozen=True)
class DirectState:
    """Rows of a pair, standardised: x (n, channels, block), y (n, m)."""

    x: Tensor
    y: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {"x": self.x, "y": self.y}


def direct_estimator(settings: type[Direct], measure: Measure) -> Estimator:
    """The estimator that answers every question by this measure."""

    def answers(state: DirectState, data: PairData, chosen: Any, seed: int) -> DirectInformation:
        return DirectInformation(state.x, state.y, lambda x, y: measure(x, y, chosen, seed))

    def samples(state: DirectState, data: PairData, chosen: Any, seed: int) -> RepeatedInformation:
        whole = answers(state, data, chosen, seed)
        of = partial(answers, data=data, chosen=chosen, seed=seed)
        return RepeatedInformation(whole, state, of, chosen.repeats, seed)

    return Estimator(settings, prepare_rows, from_tensors, answers, samples)


def prepare_rows(data: PairData, settings: Direct, seed: int) -> DirectState:
    """As many rows as the settings ask for, drawn by the seed.

    Raises
    ------
    EstimationError : there are fewer than 20 for each repeat.
    """
    x, y = data.whole()
    least = LEAST * settings.repeats
    if len(x) < least:
        raise EstimationError(
            f"pair {data.name!r}: {len(x)} rows are too few for {settings.repeats} repeats.\n"
            f"Expected at least {least}, got {len(x)}; raise "
            f"{option('Mipp.rows or images')}."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(x), generator=generator, device="cpu")[: settings.rows].to(x.device)
    flat = _standardised(x[drawn].flatten(1).double())
    return DirectState(flat.view(len(drawn), *x.shape[1:]), _standardised(y[drawn].double()))


def from_tensors(tensors: Mapping[str, Tensor]) -> DirectState:
    """The state of what `tensors` gave."""
    return DirectState(tensors["x"], tensors["y"])


@dataclass(frozen=True)
class DirectInformation:
    """Answers of a measure for one pair."""

    x: Tensor  # (n, channels, block)
    y: Tensor  # (n, m)
    measure: Callable[[Tensor, Tensor], float]
    known: dict[tuple[bytes, bytes], float] = field(default_factory=dict)
    """What was measured, by channels and targets: walks of other thresholds begin alike."""

    def single(self, targets: Tensor) -> Tensor:
        """Information of each channel alone with the target rows, nats, (channels,)."""
        channels = range(self.x.shape[1])
        each = [self._of(targets, [c]) for c in track(channels, total=len(channels), label="alone")]
        return torch.tensor(each, dtype=torch.float64, device="cpu")

    def joint(self, targets: Tensor) -> float:
        """Information of all channels together with the target rows, nats."""
        return self._of(targets, range(self.x.shape[1]))

    def eliminate(self, targets: Tensor) -> DirectElimination:
        return DirectElimination(self.x.shape[1], partial(self._of, targets))

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> DirectElimination:
        return self.eliminate(targets)

    def _of(self, targets: Tensor, channels: Sequence[int]) -> float:
        """Information of these channels together."""
        if len(channels) == 0 or len(targets) == 0:
            return 0.0
        key = np.asarray(channels).tobytes(), targets.cpu().numpy().tobytes()
        if key not in self.known:
            x = self.x[:, list(channels)].flatten(1)
            self.known[key] = self.measure(x, self.y[:, targets.to(self.y.device)])
        return self.known[key]


class DirectElimination:
    """Elimination by measuring anew without each channel.

    Parameters
    ----------
    of : information of some channels together, nats.
    """

    def __init__(self, channels: int, of: Callable[[Sequence[int]], float]) -> None:
        self._of, self._channels = of, channels
        self._present = list(range(channels))
        self._now: float | None = None
        self._without: dict[int, float] = {}

    def loss(self, channel: int) -> float:
        """Information in nats that goes with this channel, given all not yet dropped."""
        if self._now is None:
            self._now = self._of(self._present)
        if channel not in self._without:
            self._without[channel] = self._of([c for c in self._present if c != channel])
        return self._now - self._without[channel]

    def losses(self) -> Tensor:
        found = torch.zeros(self._channels, dtype=torch.float64, device="cpu")
        for channel in track(self._present, total=len(self._present), label="units"):
            found[channel] = self.loss(channel)
        return found

    def consider(self, channels: Sequence[int]) -> None:
        """Nothing can be computed for several at once."""

    def drop(self, channel: int) -> None:
        self.loss(channel)
        self._present.remove(channel)
        self._now, self._without = self._without[channel], {}

    def settle(self, channel: int) -> None:
        """Nothing is left to do for it."""


@dataclass(frozen=True)
class RepeatedInformation:
    """The same on disjoint parts of the rows, each a sample, beyond a column that tells nothing."""

    whole: PairInformation
    rows: DirectState
    of: Callable[[DirectState], PairInformation]  # the answers of a part of the rows
    repeats: int
    seed: int

    def single(self, targets: Tensor) -> Tensor:
        return self.whole.single(targets)

    def joint(self, targets: Tensor) -> float:
        return self.whole.joint(targets)

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> RepeatedElimination:
        each = [part.eliminate(targets) for part in self._parts]
        return RepeatedElimination(each, null=self.rows.x.shape[1])

    @cached_property
    def _parts(self) -> list[PairInformation]:
        x, y = self.rows.x, self.rows.y
        noise = null_column(x, torch.Generator().manual_seed(self.seed))
        sides = torch.cat([x, noise], 1), y
        parts = zip(*(side.tensor_split(self.repeats) for side in sides), strict=True)
        return [self.of(DirectState(*rows)) for rows in parts]


class RepeatedElimination:
    """Every part's elimination, asked and told the same things."""

    def __init__(self, parts: Sequence[Elimination], null: int) -> None:
        self._parts, self._null = parts, null

    def samples(self, channel: int) -> Tensor:
        """Nats that go with this channel, beyond the null column's, in each part."""
        found = [part.loss(channel) - part.loss(self._null) for part in self._parts]
        return torch.tensor(found, dtype=torch.float64, device="cpu")

    def drop(self, channel: int) -> None:
        for part in self._parts:
            part.drop(channel)

    def settle(self, channel: int) -> None:
        """Nothing is left to do for it."""


def _standardised(values: Tensor) -> Tensor:
    """Columns with mean 0 and variance 1; a constant column becomes 0."""
    deviation = values.std(0, correction=0)
    return (values - values.mean(0)) / deviation.masked_fill(deviation <= 1e-12, torch.inf)
