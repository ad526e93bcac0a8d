"""Backward elimination by the paper's rule: mask a channel, re-train briefly, compare losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.errors import EstimationError, option
from mipp.information.reconstruction.perceptron import (
    DIVERGED,
    Loss,
    Perceptrons,
    losses,
    minibatches,
    step,
)
from mipp.information.reconstruction.rows import PairRows
from mipp.information.reconstruction.settings import ReconstructionSettings

COMPACT = 8  # a share of 1/8 of dead features is worth a copy without them


def nats(before: Tensor, after: Tensor, loss: Loss, resolution: float) -> Tensor:
    """Information that takes the loss from `before` to `after`, summed over targets.

    Of the cross entropy it is the difference itself; of the squared error that of a Gaussian
    with this variance, seen at a resolution, close to the difference as long as that is small.
    """
    if loss == "cross entropy":
        return (before - after).sum(-1)
    return 0.5 * ((before + resolution) / (after + resolution)).log().sum(-1)


class ReconstructionElimination:
    """Elimination by masked re-training; networks go on from the weights of the last drop."""

    def __init__(
        self,
        networks: Perceptrons,
        rows: PairRows,
        settings: ReconstructionSettings,
        targets: Tensor,
        order: Sequence[int],
    ) -> None:
        self._rows, self._settings = rows, settings
        continuous = rows.loss == "squared error"
        targets = targets.to(rows.x.device)
        self._x, self._y = rows.x, rows.y[:, targets] if continuous else rows.y
        self._networks = networks.with_outputs(targets) if continuous else networks
        self._order = list(order)
        self._place = {channel: place for place, channel in enumerate(range(rows.channels + 1))}
        self._dropped: set[int] = set()
        self._reference: Tensor | None = None  # (repeats, m) loss without the null column
        self._tried: dict[int, tuple[Tensor, Perceptrons]] = {}  # since the last drop

    def samples(self, channel: int) -> Tensor:
        """Nats that go with this channel, beyond the null column's; one per repeat."""
        if channel not in self._tried:
            self._try(self._next(channel))
        assert self._reference is not None
        without, _ = self._tried[channel]
        return nats(without, self._reference, self._rows.loss, self._settings.resolution)

    def loss(self, channel: int) -> float:
        return float(self.samples(channel).mean())

    def losses(self) -> Tensor:
        present = [c for c in range(self._rows.channels) if c not in self._dropped]
        answers = torch.zeros(self._rows.channels, dtype=torch.float64, device="cpu")
        for channel in present:
            answers[channel] = self.loss(channel)
            self.settle(channel)
        return answers

    def consider(self, channels: Sequence[int]) -> None:
        self._order = [*channels, *(c for c in self._order if c not in set(channels))]

    def drop(self, channel: int) -> None:
        if channel not in self._tried:
            self._try([channel])
        _, self._networks = self._tried[channel]
        self._dropped.add(channel)
        self._reference = None
        self._tried = {}
        self._compact()

    def settle(self, channel: int) -> None:
        """Forget the networks without it: a channel that stays is an input like any other."""
        self._tried.pop(channel, None)

    def _next(self, channel: int) -> list[int]:
        """The channel and those visited after it, as many as are tried side by side."""
        start = self._order.index(channel)
        ahead = [c for c in self._order[start:] if c not in self._dropped and c not in self._tried]
        return ahead[: self._settings.side_by_side]

    def _try(self, channels: list[int]) -> None:
        """Re-train without each of the channels, and once per drop without the null column."""
        null = self._rows.channels
        masked = channels if self._reference is not None else [*channels, null]
        networks, found = self._retrain(masked)
        repeats = self._settings.repeats
        for arm, channel in enumerate(masked):
            part = slice(arm * repeats, (arm + 1) * repeats)
            if channel == null:
                self._reference = found[part]
            else:
                self._tried[channel] = (found[part], networks.part(part.start, part.stop))

    def _retrain(self, masked: Sequence[int]) -> tuple[Perceptrons, Tensor]:
        """Networks trained on without one channel each, and their losses on held-out rows."""
        settings, arms = self._settings, len(masked)
        mask = self._mask(masked).repeat_interleave(settings.repeats, 0)[:, None]
        networks = self._networks.copies(arms).trainable()
        optimiser = torch.optim.Adam(networks.parameters(), settings.retrain_lr)
        generator = torch.Generator().manual_seed(settings.seed + 3 + len(self._dropped))

        def batch(at: Tensor) -> tuple[Tensor, Tensor]:
            x, y = self._x[at].repeat(arms, 1, 1), self._y[at]
            return x * mask, y.repeat(arms, *[1] * (y.ndim - 1))

        for _ in range(settings.retrain_epochs if self._y.numel() else 0):
            for at in minibatches(self._rows.train, settings.batch_size, generator):
                step(networks, optimiser, *batch(at), self._rows.loss)
        with torch.no_grad():
            x, y = batch(self._rows.held_out)
            found = losses(networks(x), y, self._rows.loss)
        if found.numel() and not bool((found.mean(1) < DIVERGED).all()):
            raise EstimationError(
                f"pair {self._rows.name!r}: re-training diverges within {settings.retrain_epochs} "
                f"epochs, after {len(self._dropped)} drops.\nExpected a held-out loss below "
                f"{DIVERGED:g}, got {float(found.mean(1).max()):.3g} with "
                f"{option('Reconstruction.retrain_lr')}={settings.retrain_lr:g}; lower "
                f"{option('Reconstruction.retrain_lr')}."
            )
        return networks, found

    def _mask(self, masked: Sequence[int]) -> Tensor:
        """0 for the features of one channel each, and of what was dropped; (arms, features)."""
        block = self._rows.block
        mask = self._x.new_ones(len(masked), len(self._place), block)
        gone = [self._place[c] for c in self._dropped if c in self._place]
        mask[:, gone] = 0
        for arm, channel in enumerate(masked):
            mask[arm, self._place[channel]] = 0
        return mask.flatten(1)

    def _compact(self) -> None:
        """Leave dropped features out for good, once they are worth it."""
        dead = self._dropped & set(self._place)
        if COMPACT * len(dead) < len(self._place):
            return
        kept = [channel for channel in self._place if channel not in dead]
        places = torch.tensor([self._place[c] for c in kept], device=self._x.device)
        features = (places[:, None] * self._rows.block).add(
            torch.arange(self._rows.block, device=places.device)
        )
        self._x = self._x[:, features.flatten()]
        self._networks = self._networks.with_inputs(features.flatten())
        self._place = {channel: place for place, channel in enumerate(kept)}
