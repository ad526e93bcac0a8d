"""Sides of the channels that go, known to the walks after the one that dropped them first.

What drops take from a precision matrix does not depend on the targets, nor but for a rotation on
their order, and walks at one threshold after the other drop much the same. Where one dropped 3, 8,
5, 7 and the next drops 3, 5, 8, the sides of 3 are there; those of 8 and 5 are rotated, so that
the column of 5 comes first; then all three are there, and no product with P was made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mipp.information.gaussian.precision import Precision
from mipp.information.gaussian.sides import Sides

ROWS = 256  # that are moved at once
DEAR = 8  # a rotation may cost this part of what new sides of all known ones ahead would


class Drops:
    """Sides S of the channels gone in this walk, and behind them of others gone in one before.

    Rows of S lie in an order of their own: first those of channels forgotten in this walk, which
    have gone, then those held.

    Parameters
    ----------
    precision : P.
    channels : of as many features each.
    """

    def __init__(self, precision: Precision, channels: int) -> None:
        self._block = precision.features // channels
        self._start = precision.sides.shape[1]  # columns of no drops
        self._sides = Sides(precision.sides, precision.features // 4)
        self._rows = torch.arange(channels, device="cpu")
        self._known: list[int] = []  # channels with sides, as these lie
        self.restart()

    def restart(self) -> None:
        """A walk begins: all channels are there, what is known stays."""
        self._gone = self._forgotten = 0

    @property
    def held(self) -> Tensor:
        """Channels held, as their rows lie."""
        return self._rows[self._forgotten :]

    def columns(self) -> Tensor:
        """S of the features held and the channels gone."""
        return self._all_columns()[:, : self._column(self._gone)]

    def taken_from(self, entries: Tensor, rows: Tensor) -> Tensor:
        """Entries of P at these rows and all features held, less what was taken; in place."""
        columns = self.columns()
        return entries.addmm_(columns[rows], columns.mT, alpha=-1)

    def append(self, dropped: Sequence[int], sides: Tensor) -> None:
        """These channels go, whose sides of the features held are new; others become unknown."""
        self._sides.shorten(self._column(self._gone))
        self._sides.append(sides, self._forgotten * self._block)
        self._known[self._gone :] = dropped
        self._gone += len(dropped)

    def recall(self, dropped: Sequence[int], places: Tensor) -> list[int]:
        """These channels go, if their sides are known: they, as these lie; nothing otherwise.

        Parameters
        ----------
        places : of all channels among those held.
        """
        ahead = {channel: place for place, channel in enumerate(self._known[self._gone :])}
        window = 1 + max(ahead.get(channel, len(ahead)) for channel in dropped)
        dear = DEAR * window**2 > len(ahead) * len(self._known)
        if window > len(ahead) or (dear and window > len(dropped)):
            return []
        if window > len(dropped):
            self._rotate(window, set(dropped), places)
        self._gone += len(dropped)
        return self._known[self._gone - len(dropped) : self._gone]

    def forget(self, dropped: Tensor) -> Tensor:
        """Hold these channels, which have gone, no more; the places that the others had.

        Parameters
        ----------
        dropped : whether each of those held is one of them.
        """
        gone, stay = dropped.nonzero().flatten(), (~dropped).nonzero().flatten()
        if not torch.equal(gone, torch.arange(len(gone), device="cpu")):
            self.held.copy_(self.held[torch.cat([gone, stay])])
            _move_up(self._all_columns(), *(features_of(p, self._block) for p in (gone, stay)))
        self._forgotten += len(gone)
        return stay

    def _all_columns(self) -> Tensor:
        """Known or not yet gone, of features held."""
        return self._sides.columns[self._forgotten * self._block :]

    def _column(self, channel: int) -> int:
        return self._start + channel * self._block

    def _rotate(self, window: int, first: set[int], places: Tensor) -> None:
        """Order the next channels by whether they are of the first; their factor is triangular."""
        ahead = slice(self._gone, self._gone + window)
        order = sorted(self._known[ahead], key=lambda channel: channel not in first)
        sides = self._all_columns()[:, self._column(ahead.start) : self._column(ahead.stop)]
        at = features_of(places[order], self._block).to(sides.device)
        rotation, factor = torch.linalg.qr(sides[at].mT)
        sides.copy_(sides @ rotation)
        sides[at] = factor.mT
        self._known[ahead] = order


def features_of(places: Tensor, block: int) -> Tensor:
    """Features of the channels at these places."""
    return (places[:, None] * block + torch.arange(block, device=places.device)).flatten()


def _move_up(matrix: Tensor, some: Tensor, others: Tensor) -> None:
    """Bring some rows before the others, in place; both are in order."""
    some, others = some.to(matrix.device), others.to(matrix.device)
    first = matrix[some]
    for start in reversed(range(0, len(others), ROWS)):  # these move down: the last go first
        rows = others[start : start + ROWS]
        matrix[len(some) + start : len(some) + start + len(rows)] = matrix[rows]
    matrix[: len(some)] = first
