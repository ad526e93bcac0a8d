"""Backward elimination in closed form, in any order: downdates of a precision matrix.

The block form of optimal brain surgeon applied to information: exact, and the cost of a step
does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.information.gaussian.blocks import DOUBT, Residuals, explained
from mipp.information.gaussian.panel import Panel, Solved
from mipp.information.gaussian.precision import Precision

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
        self._channels = torch.arange(channels, device="cpu")  # those held, in order
        self._blocks = precision.blocks(channels)
        self._weights = weights
        self._residuals = residuals
        self._present = torch.ones(channels, dtype=torch.bool, device="cpu")
        self._sides: list[Tensor] = []  # per panel that is done with, (held features, dropped)
        self._panel: Panel | None = None
        self._solved: tuple[int, Solved] | None = None  # the channel asked about last

    def loss(self, channel: int) -> float:
        return float(self._residuals.nats(self._rise(self._solve(channel))))

    def losses(self) -> Tensor:
        self._finish_panel()
        device = self._blocks.device
        eye = torch.eye(self._block, dtype=self._blocks.dtype, device=device)
        eye *= 1 + 2 * DOUBT * self._precision.noise  # what has gone is clear of any rounding
        gone = ~self._present[self._channels].to(device)
        blocks = torch.where(gone[:, None, None], eye, self._blocks)
        weights = self._weights.view(len(blocks), self._block, self._weights.shape[1])
        answers = self._weights.new_zeros(len(self._present))
        answers[self._channels.to(device)] = self._residuals.nats(
            explained(blocks, weights, self._precision.noise)
        )
        return answers

    def consider(self, channels: Sequence[int]) -> None:
        self._finish_panel()
        rows, held = self._features(torch.tensor(channels, device="cpu")), self._places(channels)
        precision = self._precision.entries(rows, rows)
        for sides in self._sides:
            here = sides[held]
            precision.addmm_(here, here.mT, alpha=-1)
        weights, noise = self._weights[held].cpu(), self._precision.noise
        self._panel = Panel(channels, len(channels), precision.cpu(), weights, noise)

    def drop(self, channel: int) -> None:
        solved = self._solve(channel)
        assert self._panel is not None
        self._residuals.residual += self._rise(solved)
        self._panel.drop(channel, solved)
        self._present[channel] = False
        self._solved = None

    def _features(self, channels: Tensor) -> Tensor:
        """Rows of these channels where each has its block, on the device."""
        rows = channels[:, None] * self._block + torch.arange(self._block, device="cpu")
        return rows.flatten().to(self._precision.device)

    def _places(self, channels: Sequence[int]) -> Tensor:
        """Rows of these channels among those held."""
        return self._features(
            torch.searchsorted(self._channels, torch.tensor(channels, device="cpu"))
        )

    def _solve(self, channel: int) -> Solved:
        if self._solved is None or self._solved[0] != channel:
            if self._panel is None or not self._panel.holds(channel):
                self.consider([channel])
            assert self._panel is not None
            self._solved = channel, self._panel.solve(channel)
        return self._solved[1]

    def _rise(self, solved: Solved) -> Tensor:
        return torch.from_numpy(solved.rise).to(self._weights.device)

    def _finish_panel(self) -> None:
        """Bring the drops of the panel to all channels."""
        panel, self._panel, self._solved = self._panel, None, None
        if panel is None or not len(panel):
            return
        dropped, factor, projections = panel.dropped()
        factor, projections = (part.to(self._precision.device) for part in (factor, projections))
        rows, held = self._features(torch.tensor(dropped, device="cpu")), self._places(dropped)
        cross = self._precision.entries(rows, self._features(self._channels))
        for sides in self._sides:
            cross.addmm_(sides[held], sides.mT, alpha=-1)
        sides = torch.linalg.solve_triangular(factor, cross, upper=False).mT.contiguous()
        by_channel = sides.view(len(self._channels), self._block, sides.shape[1])
        self._blocks.baddbmm_(by_channel, by_channel.mT, alpha=-1)
        self._weights.addmm_(sides, projections, alpha=-1)
        self._sides.append(sides)
        self._forget_dropped()

    def _forget_dropped(self) -> None:
        """Leave the rows of dropped channels out, once they are worth a copy of the others."""
        stay = self._present[self._channels]
        if COMPACT * int((~stay).sum()) < len(stay):
            return
        rows = self._features(stay.nonzero().flatten())
        self._channels = self._channels[stay]
        self._blocks = self._blocks[stay.to(self._blocks.device)]
        self._weights = self._weights[rows]
        self._sides = [sides[rows] for sides in self._sides]
