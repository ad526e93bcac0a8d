"""Backward elimination in closed form when the order of the visits is known beforehand.

Channels are decided panel by panel. Within a panel everything is small and lies in the CPU's
cache; what its drops do to all later channels is computed once, when those are reached, as in a
left-looking block Cholesky factorisation whose kept steps are skipped. A pass over d features of
which D are dropped costs O(d D^2), reads the precision matrix and never copies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mipp.information.panel import PANEL, Panel, Solved

if TYPE_CHECKING:
    from mipp.information.gaussian import PairState


class OrderedElimination:
    """Elimination by downdates of the precision matrix P and of the predictor W, in an order.

    Parameters
    ----------
    order : of the visits; only the channel that is decided next can be asked about.
    watched : so many channels at the end of the order can always be asked about, and stay.
    """

    def __init__(
        self, state: PairState, targets: Tensor, order: Sequence[int], watched: int = 0
    ) -> None:
        assert state.precision is not None
        self._precision = state.precision
        self._block = state.precision.shape[0] // state.channels
        self._order = list(order)
        features = torch.tensor(self._order, device=self._precision.device)[:, None] * self._block
        features = features + torch.arange(self._block, device=features.device)
        self._features = features.flatten()  # in the order of the visits
        targets = targets.to(self._precision.device)
        self._weights = state.weights[self._features].index_select(1, targets)
        self._past: list[_Past] = []
        losses = (state.residual[targets], state.resolution * state.variance[targets])
        self._residual, self._floor = (values.cpu().numpy().copy() for values in losses)
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

    def samples(self, channel: int) -> Tensor:
        """A single one; for a test of significance see `folds`."""
        return torch.tensor([self.loss(channel)], dtype=torch.float64)

    def losses(self) -> Tensor:
        """Not for an order: whoever asks about all channels decides about any of them."""
        raise NotImplementedError("an ordered elimination answers about the next channel alone")

    def consider(self, channels: Sequence[int]) -> None:
        """Nothing to prepare: the order says who comes next."""

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
        cross = self._entries(rows, slice(self._next, None))
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
        precision, weights = self._entries(rows, places), self._weights[rows]
        for past in self._past:
            sides = past.rows(rows)
            precision.addmm_(sides, sides.mT, alpha=-1)
            weights.addmm_(sides, past.projections, alpha=-1)
        return Panel(places, last - first, precision.cpu(), weights.cpu())

    def _rows_at(self, places: Sequence[int]) -> Tensor:
        rows = torch.tensor(places, device=self._features.device)[:, None] * self._block
        return (rows + torch.arange(self._block, device=rows.device)).flatten()

    def _entries(self, rows: Tensor, places: slice | Sequence[int]) -> Tensor:
        """The precision matrix at these rows and the channels at these places, untouched."""
        channels = torch.tensor(
            self._order[places]
            if isinstance(places, slice)
            else [self._order[place] for place in places],
            device=rows.device,
        )
        grid = self._precision.view(len(self._features), len(self._order), self._block)
        return grid[self._features[rows][:, None], channels].flatten(1)


class _Past:
    """The drops of an earlier panel, as all later channels see them."""

    def __init__(self, start: int, sides: Tensor, projections: Tensor) -> None:
        self.start = start  # first feature after the panel
        self.sides = sides  # (features from there on, dropped features)
        self.projections = projections  # (dropped features, m)

    def rows(self, features: Tensor) -> Tensor:
        """Sides of these features."""
        return self.sides.index_select(0, features - self.start)
