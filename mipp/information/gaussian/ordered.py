"""Backward elimination in closed form when the order of the visits is known beforehand.

Channels are decided panel by panel. Within a panel everything is small and lies in the CPU's
cache; what its drops do to all later channels is computed once, when those are reached, as in a
left-looking block Cholesky factorisation whose kept steps are skipped. A pass over d features of
which D are dropped costs O(d D^2), reads the precision matrix and never copies it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mipp.information.gaussian.blocks import Residuals
from mipp.information.gaussian.panel import PANEL, Panel, Solved
from mipp.information.gaussian.precision import Precision


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
        self._past: list[_Past] = []
        self._residual = residuals.residual.cpu().numpy()
        self._floor = residuals.floor.cpu().numpy()
        self._decidable = len(self._order) - watched
        tail = range(self._decidable, len(self._order))
        self._watched = {self._order[place]: place for place in tail}
        self._next = 0  # place of the channel that is decided next
        self._solved: Solved | None = None
        self._panel = self._panel_from(0)

    def loss(self, channel: int) -> float:
        """Information that goes with the channel decided next, or with a watched one; nats."""
        rise = self._solve(channel).rise
        now = self._residual + self._floor
        constant = now <= 0
        if constant.any():
            rise, now = rise[~constant], now[~constant]
        return 0.5 * float(np.log1p(rise / now).sum())

    def drop(self, channel: int) -> None:
        """Remove the channel that is decided next."""
        solved = self._solve(channel)
        self._residual = self._residual + solved.rise
        self._panel.drop(self._next, solved)
        self._advance()

    def settle(self, channel: int) -> None:
        """Keep the channel that is decided next."""
        assert channel == self._order[self._next]
        self._advance()

    def _advance(self) -> None:
        self._next += 1
        self._solved = None

    def _solve(self, channel: int) -> Solved:
        if self._next < self._decidable and not self._panel.holds(self._next):
            self._finish_panel()
            self._panel = self._panel_from(self._next)
        if channel in self._watched:
            return self._panel.solve(self._watched[channel])
        assert channel == self._order[self._next], "channels are decided in the order given"
        if self._solved is None:
            self._solved = self._panel.solve(self._next)
        return self._solved

    def _finish_panel(self) -> None:
        """Bring the drops of the panel to all channels after it."""
        if not len(self._panel):
            return
        device = self._precision.device
        dropped, factor, projections = self._panel.dropped()
        factor, projections = factor.to(device), projections.to(device)
        rows = self._rows_at(dropped)
        start = self._next * self._block
        cross = self._entries(rows, slice(start, None))
        for past in self._past:
            cross.addmm_(past.rows(rows), past.sides[start - past.start :].mT, alpha=-1)
        sides = torch.linalg.solve_triangular(factor, cross, upper=False).mT
        self._past.append(_Past(start, sides, projections))

    def _panel_from(self, first: int) -> Panel:
        """The next panel, drops so far applied; watched channels are in every one."""
        count = max(1, PANEL // self._block)
        last = min(first + count, self._decidable)
        places = [*range(first, last), *range(self._decidable, len(self._order))]
        rows = self._rows_at(places)
        precision, weights = self._entries(rows, rows), self._weights[rows]
        for past in self._past:
            sides = past.rows(rows)
            precision.addmm_(sides, sides.mT, alpha=-1)
            weights.addmm_(sides, past.projections, alpha=-1)
        noise = self._precision.noise
        return Panel(places, last - first, precision.cpu(), weights.cpu(), noise)

    def _rows_at(self, places: Sequence[int]) -> Tensor:
        rows = torch.tensor(places, device=self._features.device)[:, None] * self._block
        return (rows + torch.arange(self._block, device=rows.device)).flatten()

    def _entries(self, rows: Tensor, columns: Tensor | slice) -> Tensor:
        """The precision matrix at these features in the order of the visits, untouched."""
        return self._precision.entries(self._features[rows], self._features[columns])


class _Past:
    """The drops of an earlier panel, as all later channels see them."""

    def __init__(self, start: int, sides: Tensor, projections: Tensor) -> None:
        self.start = start  # first feature after the panel
        self.sides = sides  # (features from there on, dropped features)
        self.projections = projections  # (dropped features, m)

    def rows(self, features: Tensor) -> Tensor:
        """Sides of these features."""
        return self.sides.index_select(0, features - self.start)
