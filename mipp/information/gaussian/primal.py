"""Backward elimination in closed form, in any order: downdates of a precision matrix.

The block form of optimal brain surgeon applied to information: exact, and the cost of a step
does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.information.gaussian.blocks import DOUBT, Residuals, explained
from mipp.information.gaussian.drops import Drops, features_of
from mipp.information.gaussian.panel import Panel
from mipp.information.gaussian.precision import Precision

COMPACT = 8  # a share of 1/8 of dropped channels is worth a copy without them


class PrimalElimination:
    """Elimination by downdates of the precision matrix P and of the predictor W, in any order.

    The channels that are asked about one by one are a panel; what its drops do to all others is
    computed once, when those are asked about. P itself is read and never copied. Where the order
    is known beforehand `OrderedElimination` gives the same answers for less.

    Parameters
    ----------
    precision, weights : P (d, d) and W (d, m), neither written to.
    residuals : of the m targets.
    channels : d = channels * block.
    drops : those of the eliminations before, of which one at a time is used; none if not given.
    """

    def __init__(
        self,
        precision: Precision,
        weights: Tensor,
        residuals: Residuals,
        channels: int,
        drops: Drops | None = None,
    ) -> None:
        self._precision = precision
        self._block = precision.features // channels
        self._drops = drops or Drops(precision, channels)
        self._drops.restart()
        self._places = torch.empty(channels, dtype=torch.int64, device="cpu")
        self._place()
        held = self._drops.held
        self._present = torch.ones(channels, dtype=torch.bool, device="cpu")
        self._rows = self._features(held)  # features held
        self._blocks = precision.blocks(channels)[held]
        self._scale = float(self._blocks.diagonal(dim1=1, dim2=2).max())
        self._weights = weights[self._rows]
        self._residuals = residuals
        self._panel: Panel | None = None
        self._at = self._rows  # of the panel's features among those held

    def loss(self, channel: int) -> float:
        return self._panel_of(channel).loss(channel)

    def losses(self) -> Tensor:
        self._finish_panel()
        weights = self._weights.view(len(self._blocks), self._block, self._weights.shape[1])
        answers = self._weights.new_zeros(len(self._present))
        answers[self._drops.held.to(answers.device)] = self._residuals.nats(
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
            self._drops.columns()[at].cpu(),
            self._blocks[places].cpu(),
            self._weights[at].cpu(),
            self._residuals.to(torch.device("cpu")),
            self._precision.noise,
        )

    def drop(self, channel: int) -> None:
        self._panel_of(channel).drop(channel)

    def _features(self, places: Tensor) -> Tensor:
        """Rows of the blocks at these places."""
        return features_of(places.to(self._precision.device), self._block)

    def _place(self) -> None:
        """Note where each channel held lies."""
        self._places[self._drops.held] = torch.arange(len(self._drops.held), device="cpu")

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
        self._residuals = panel.residuals.to(self._precision.device)
        at, sides, projections = self._take(panel)
        by_channel = sides.view(-1, self._block, sides.shape[1])
        self._blocks.baddbmm_(by_channel, by_channel.mT, alpha=-1)
        self._weights.addmm_(sides, projections, alpha=-1)
        self._clear(at[:: self._block] // self._block)
        self._forget_dropped()

    def _take(self, panel: Panel) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of what went, what it takes from P by its sides, and from W by their product."""
        positions, factor, projections = (part.to(self._rows.device) for part in panel.dropped())
        at = self._at[positions]
        dropped = self._drops.held[(at[:: self._block] // self._block).cpu()]
        self._present[dropped] = False
        if known := self._drops.recall(dropped.tolist(), self._places):
            at, sides = self._features(self._places[known]), self._drops.columns()
            sides = sides[:, sides.shape[1] - len(at) :]
            return at, sides, _solve(sides[at], self._weights[at])
        cross = self._precision.entries(self._rows[at], self._rows)
        sides = _solve(factor, self._drops.taken_from(cross, at)).mT.contiguous()
        self._drops.append(dropped.tolist(), sides)
        return at, sides, projections

    def _clear(self, places: Tensor) -> None:
        """Blocks of what has gone are clear of what rounding in later drops takes from them."""
        eye = torch.eye(self._block, dtype=self._blocks.dtype, device=self._blocks.device)
        self._blocks[places] = eye * (self._scale + 2 * DOUBT * self._precision.noise)

    def _forget_dropped(self) -> None:
        """Leave the rows of dropped channels out, once they are worth a copy of the others."""
        dropped = ~self._present[self._drops.held]
        if COMPACT * int(dropped.sum()) < len(dropped):
            return
        stay = self._drops.forget(dropped).to(self._rows.device)
        self._place()
        at = self._features(stay)
        self._rows, self._blocks = self._rows[at], self._blocks[stay]
        self._weights = self._weights[at]


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """Of a lower triangular factor."""
    solved: Tensor = torch.linalg.solve_triangular(factor, right, upper=False)
    return solved
