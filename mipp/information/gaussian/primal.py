"""Backward elimination in closed form, in any order: downdates of a precision matrix.

The block form of optimal brain surgeon applied to information: exact, and the cost of a step
does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.information.gaussian.blocks import DOUBT, Residuals, explained
from mipp.information.gaussian.panel import Panel
from mipp.information.gaussian.precision import Precision
from mipp.information.gaussian.sides import Sides

COMPACT = 8  # a share of 1/8 of dropped channels is worth a copy without them


class PrimalElimination:
    """Elimination by downdates of the precision matrix P and of the predictor W, in any order.

    The channels that are asked about one by one are a panel; what its drops do to all others is
    computed once, when those are asked about. P itself is read and never copied. Where the order
    is known beforehand `OrderedElimination` gives the same answers for less.

    Parameters
    ----------
    precision, weights : P (d, d) and W (d, m), this one overwritten.
    residuals : of the m targets.
    channels : d = channels * block.
    """

    def __init__(
        self, precision: Precision, weights: Tensor, residuals: Residuals, channels: int
    ) -> None:
        self._precision = precision
        self._block = precision.features // channels
        self._rows = torch.arange(precision.features, device=precision.device)  # features held
        self._channels = self._places = torch.arange(channels, device="cpu")  # held, and where
        self._blocks = precision.blocks(channels)
        self._weights = weights
        self._residuals = residuals
        self._present = torch.ones(channels, dtype=torch.bool, device="cpu")
        self._sides = Sides(precision.sides, precision.features // 4)
        self._panel: Panel | None = None
        self._at = self._rows  # of the panel's features among those held

    def loss(self, channel: int) -> float:
        return self._panel_of(channel).loss(channel)

    def losses(self) -> Tensor:
        self._finish_panel()
        weights = self._weights.view(len(self._blocks), self._block, self._weights.shape[1])
        answers = self._weights.new_zeros(len(self._present))
        answers[self._channels.to(answers.device)] = self._residuals.nats(
            explained(self._blocks, weights, self._precision.noise)
        )
        return answers

    def consider(self, channels: Sequence[int]) -> None:
        self._finish_panel()
        places = self._places[channels].to(self._rows.device)
        at = self._at = self._features(places)
        rows = self._rows[at]

        def entries(some: slice, others: slice) -> Tensor:
            return self._precision.entries(rows[some], rows[others]).cpu()

        self._panel = Panel(
            channels,
            len(channels),
            entries,
            self._sides.columns[at].cpu(),
            self._blocks[places].cpu(),
            self._weights[at].cpu(),
            self._residuals.to(torch.device("cpu")),
            self._precision.noise,
        )

    def drop(self, channel: int) -> None:
        self._panel_of(channel).drop(channel)
        self._present[channel] = False

    def _features(self, places: Tensor) -> Tensor:
        """Rows of the blocks at these places."""
        block = torch.arange(self._block, device=places.device)
        return (places[:, None] * self._block + block).flatten()

    def _panel_of(self, channel: int) -> Panel:
        if self._panel is None or not self._panel.holds(channel):
            self.consider([channel])
        assert self._panel is not None
        return self._panel

    def _finish_panel(self) -> None:
        """Bring the drops of the panel to all channels."""
        panel, self._panel = self._panel, None
        if panel is None or not len(panel):
            return
        device = self._precision.device
        self._residuals = panel.residuals.to(device)
        dropped, factor, projections = (part.to(device) for part in panel.dropped())
        at = self._at[dropped]
        cross = self._precision.entries(self._rows[at], self._rows)
        self._sides.taken_from(cross, at, slice(None))
        sides = torch.linalg.solve_triangular(factor, cross, upper=False).mT.contiguous()
        by_channel = sides.view(len(self._channels), self._block, sides.shape[1])
        self._blocks.baddbmm_(by_channel, by_channel.mT, alpha=-1)
        self._weights.addmm_(sides, projections, alpha=-1)
        self._sides.append(sides)
        self._clear(at[:: self._block] // self._block)
        self._forget_dropped()

    def _clear(self, places: Tensor) -> None:
        """Blocks of what has gone are clear of any rounding: later drops leave them as they are."""
        eye = torch.eye(self._block, dtype=self._blocks.dtype, device=self._blocks.device)
        self._blocks[places] = eye * (1 + 2 * DOUBT * self._precision.noise)

    def _forget_dropped(self) -> None:
        """Leave the rows of dropped channels out, once they are worth a copy of the others."""
        stay = self._present[self._channels]
        if COMPACT * int((~stay).sum()) < len(stay):
            return
        places = stay.nonzero().flatten()
        self._channels = self._channels[places]
        self._places = self._places.new_zeros(len(self._present))
        self._places[self._channels] = torch.arange(len(places), device="cpu")
        places = places.to(self._rows.device)
        at = self._features(places)
        self._rows, self._blocks = self._rows[at], self._blocks[places]
        self._weights = self._weights[at]
        self._sides.keep(at)
