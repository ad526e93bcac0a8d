"""Backward elimination in closed form when the order of the visits is known beforehand.

Channels are decided panel by panel. Within a panel everything is small and lies in the CPU's
cache; what its drops do to all later channels is computed once, when those are reached, as in a
left-looking block Cholesky factorisation whose kept steps are skipped. A pass over d features of
which D are dropped costs O(d D^2), reads the precision matrix and never copies it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.information.gaussian.blocks import Residuals
from mipp.information.gaussian.panel import PANEL, Panel
from mipp.information.gaussian.precision import Precision
from mipp.information.gaussian.sides import Sides


class OrderedElimination:
    """Elimination by downdates of the precision matrix P and of the predictor W, in an order.

    Parameters
    ----------
    precision, weights : P (d, d) and W (d, m), neither written to.
    residuals : of the m targets.
    order : of the visits; only the channel that is decided next can be asked about.
    watched : so many channels at the end of the order can always be asked about, and stay.
    """

    def __init__(
        self,
        precision: Precision,
        weights: Tensor,
        residuals: Residuals,
        order: Sequence[int],
        watched: int = 0,
    ) -> None:
        self._precision = precision
        self._order = list(order)
        self._block = precision.features // len(self._order)
        features = torch.tensor(self._order, device=self._precision.device)[:, None] * self._block
        features = features + torch.arange(self._block, device=features.device)
        self._features = features.flatten()  # in the order of the visits
        self._weights = weights[self._features]
        self._blocks = precision.blocks(len(self._order))[self._order]
        self._sides = Sides(precision.sides[self._features], PANEL)
        self._rank = precision.sides.shape[1]  # columns of no drops
        self._projections: list[Tensor] = []  # per panel that is done with, (dropped features, m)
        self._residuals = residuals.to(torch.device("cpu"))
        self._decidable = len(self._order) - watched
        tail = range(self._decidable, len(self._order))
        self._watched = {self._order[place]: place for place in tail}
        self._next = 0  # place of the channel that is decided next
        self._panel = self._panel_from(0)

    def loss(self, channel: int) -> float:
        """Information that goes with the channel decided next, or with a watched one; nats."""
        return self._panel_at_hand().loss(self._place(channel))

    def drop(self, channel: int) -> None:
        """Remove the channel that is decided next."""
        self._panel_at_hand().drop(self._place(channel))
        self._next += 1

    def settle(self, channel: int) -> None:
        """Keep the channel that is decided next."""
        assert channel == self._order[self._next]
        self._next += 1

    def _place(self, channel: int) -> int:
        place = self._watched.get(channel, self._next)
        assert channel == self._order[place], "channels are decided in the order given"
        return place

    def _panel_at_hand(self) -> Panel:
        """That of the channel decided next, in which watched ones are too."""
        if self._next < self._decidable and not self._panel.holds(self._next):
            self._finish_panel()
            self._panel = self._panel_from(self._next)
        return self._panel

    def _finish_panel(self) -> None:
        """Bring the drops of the panel to all channels after it."""
        if not len(self._panel):
            return
        device = self._precision.device
        at, factor, projections = self._panel.dropped()
        rows, later = self._rows[at.to(device)], slice(self._next * self._block, None)
        cross = self._entries(rows, later)
        self._sides.taken_from(cross, rows, later)
        sides = torch.linalg.solve_triangular(factor.to(device), cross, upper=False).mT
        self._sides.append(sides, later.start)
        self._projections.append(projections.to(device))

    def _panel_from(self, first: int) -> Panel:
        """The next panel, drops so far applied; watched channels are in every one."""
        count = max(1, PANEL // self._block)
        last = min(first + count, self._decidable)
        places = [*range(first, last), *range(self._decidable, len(self._order))]
        rows = self._rows = self._rows_at(places)
        sides, weights = self._sides.columns[rows], self._weights[rows]
        drops = sides[:, self._rank :]
        if self._projections:
            weights.addmm_(drops, torch.cat(self._projections), alpha=-1)
        by_channel = drops.reshape(len(places), self._block, drops.shape[1])
        blocks = self._blocks[places].baddbmm_(by_channel, by_channel.mT, alpha=-1)
        return Panel(
            places,
            last - first,
            lambda some, others: self._entries(rows[some], rows[others]).cpu(),
            sides.cpu(),
            blocks.cpu(),
            weights.cpu(),
            self._residuals,
            self._precision.noise,
        )

    def _rows_at(self, places: Sequence[int]) -> Tensor:
        rows = torch.tensor(places, device=self._features.device)[:, None] * self._block
        return (rows + torch.arange(self._block, device=rows.device)).flatten()

    def _entries(self, rows: Tensor, columns: Tensor | slice) -> Tensor:
        """The precision's matrix at these features in the order of the visits, untouched."""
        return self._precision.entries(self._features[rows], self._features[columns])
