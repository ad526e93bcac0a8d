"""The channels at hand of a backward elimination, small enough for the CPU's cache.

Drops are foretold by blocks: of channels 3, 8, 5 asked about in this order one Cholesky factor of
their part of P tells what each takes if those before it go too. Where 3 and 8 go, and 5 does not,
the factor's first part is what downdates all others, in one product. After one that stays the next
are foretold each alone, since those mostly stay too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipp.information.gaussian.blocks import Residuals, dirty, require_clear
from mipp.information.gaussian.sides import Sides

PANEL = 256  # features decided before the products with all others
FIRST, AHEAD = 4, 32  # channels that are foretold at once, at first and at most
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Foretold:
    """What the drops of some channels take, one after the other (`in_turn`) or each alone."""

    first: int  # position of the first of them in the panel
    in_turn: bool
    cross: Tensor  # P at their features and those of all from the first on; only if in turn
    factor: Tensor  # (k b, k b) lower Cholesky factor, or (k, b, b) of each
    projected: Tensor  # (k b, m) factor^-1 W, or (k, b, m)
    rises: FloatArray  # (k, m) of the residual variance
    losses: FloatArray  # (k,) nats

    def holds(self, position: int) -> bool:
        return self.first <= position < self.first + len(self.losses)


class Panel:
    """The channels at hand and the targets, with downdates by blocks, on the CPU.

    A drop reaches the places after it; those before it are decided, or left for a later panel.

    Products are torch's: NumPy may bring a BLAS with threads of its own, which would wait busily
    for the cores that torch's threads need.

    Parameters
    ----------
    places : of the channels, in the order in which they are asked about.
    decidable : so many of them can be dropped; the others are `watched`: asked about at any time.
    entries : given two ranges of these channels' features, the matrix of which `sides` are taken;
        a copy.
    sides : S (k b, d) of these features; P is that matrix less S S'.
    blocks, weights : P's blocks on the diagonal (k, b, b) and W (k b, m), overwritten.
    residuals : of the targets, on the CPU, which grow with every drop.
    noise : as for `require_clear`.
    """

    def __init__(
        self,
        places: Sequence[int],
        decidable: int,
        entries: Callable[[slice, slice], Tensor],
        sides: Tensor,
        blocks: Tensor,
        weights: Tensor,
        residuals: Residuals,
        noise: float,
    ) -> None:
        self._block = blocks.shape[1]
        self._position = {place: i for i, place in enumerate(places)}
        self._decidable = decidable
        self._front = 0  # position after the last drop
        self._entries, self._past, self._sides = entries, sides.shape[1], Sides(sides, len(sides))
        self._blocks, self._weights, self._noise = blocks, weights, noise
        self.residuals = residuals
        self._foretold: _Foretold | None = None
        self._accepted = 0  # of the channels foretold in turn, dropped but not yet applied
        self._length, self._in_turn = FIRST, True  # of what is foretold next
        self._dropped: list[int] = []  # positions
        self._projections: list[Tensor] = []

    def holds(self, place: int) -> bool:
        """Whether the channel at this place can be decided here."""
        position = self._position.get(place, self._decidable)
        return self._front <= position < self._decidable

    def loss(self, place: int) -> float:
        """Information that goes with a channel, given all not yet dropped; nats."""
        position = self._position[place]
        if position >= self._decidable:  # watched
            self._apply()
            return float(self._alone(position, 1).losses[0])
        foretold = self._of(position)
        return float(foretold.losses[position - foretold.first])

    def drop(self, place: int) -> None:
        position = self._position[place]
        foretold = self._of(position)
        index = position - foretold.first
        self.residuals.residual += torch.from_numpy(foretold.rises[index])
        self._dropped.append(position)
        self._front = position + 1
        if foretold.in_turn:
            self._accepted += 1
            if self._accepted == len(foretold.losses):
                self._apply()
                self._length = min(2 * self._length, AHEAD)
        else:
            cross = self._cross(position, 1)
            self._downdate(position, foretold.factor[index], foretold.projected[index], cross)
            self._foretold, self._length, self._in_turn = None, 1, True

    def dropped(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the drops in the panel, the factor of their part of P (k, k), C^-1 W."""
        self._apply()
        positions = torch.tensor(self._dropped, device="cpu")[:, None]
        at = (positions * self._block + torch.arange(self._block, device="cpu")).flatten()
        factor = self._sides.columns[at, self._past :]
        return at, factor, torch.cat(self._projections)

    def __len__(self) -> int:
        """Channels dropped."""
        return len(self._dropped)

    def _of(self, position: int) -> _Foretold:
        """What was foretold of a channel, or is now."""
        foretold = self._foretold
        if foretold is not None:
            valid = not foretold.in_turn or position == foretold.first + self._accepted
            if valid and foretold.holds(position):
                return foretold
            if not valid:  # the one before it stayed
                self._apply()
                self._length, self._in_turn = 1, False
            else:  # all of these stayed
                self._length = min(2 * self._length, AHEAD)
        count = min(self._length, self._decidable - position)
        foretell = self._in_order if self._in_turn else self._alone
        self._foretold = foretell(position, count)
        return self._foretold

    def _rows(self, position: int, count: int) -> slice:
        return slice(position * self._block, (position + count) * self._block)

    def _in_order(self, position: int, count: int) -> _Foretold:
        """Channels from a position on, each given that those before it go too."""
        cross = self._cross(position, count)
        factor, failed = torch.linalg.cholesky_ex(cross[:, : len(cross)])
        pivots = factor.diagonal().view(count, self._block).numpy()
        stops = np.zeros(count, int)
        if failed:
            channel, pivot = divmod(int(failed) - 1, self._block)
            stops[channel] = pivot + 1
        clear = self._clear(pivots, stops)
        factor = factor[: clear * self._block, : clear * self._block]
        rows = self._rows(position, clear)
        projected = torch.linalg.solve_triangular(factor, self._weights[rows], upper=False)
        by_channel = projected.view(clear, self._block, projected.shape[1]).numpy()
        rises = np.einsum("kbm,kbm->km", by_channel, by_channel)
        before = np.zeros_like(rises)
        np.cumsum(rises[:-1], 0, out=before[1:])
        losses = self.residuals.nats(torch.from_numpy(rises), torch.from_numpy(before)).numpy()
        return _Foretold(position, True, cross, factor, projected, rises, losses)

    def _alone(self, position: int, count: int) -> _Foretold:
        """Channels from a position on, each given that no other goes."""
        rows, block = self._rows(position, count), self._block
        own = self._blocks[position : position + count]
        factors, failed = torch.linalg.cholesky_ex(own)
        clear = self._clear(factors.diagonal(dim1=1, dim2=2).numpy(), failed.numpy())
        weights = self._weights[rows].view(count, block, self._weights.shape[1])[:clear]
        projected = torch.linalg.solve_triangular(factors[:clear], weights, upper=False)
        rises = np.einsum("kbm,kbm->km", projected.numpy(), projected.numpy())
        losses = self.residuals.nats(torch.from_numpy(rises)).numpy()
        return _Foretold(position, False, own[0, :, :0], factors[:clear], projected, rises, losses)

    def _clear(self, pivots: FloatArray, stops: npt.NDArray[np.integer[Any]]) -> int:
        """How many channels are clear of rounding before the first that is not.

        Parameters
        ----------
        pivots : (k, b).
        stops : the pivot at which each factorisation stops, or 0, (k,).

        Raises
        ------
        SingularCovarianceError : the first channel is not.
        """
        bad = dirty(pivots, self._noise) | (stops > 0)
        if bad[0]:
            require_clear(pivots[0], int(stops[0]), self._noise)
        return int(bad.argmax()) if bad.any() else len(bad)

    def _apply(self) -> None:
        """Downdate by those of the channels foretold in turn that were dropped."""
        foretold, k = self._foretold, self._accepted * self._block
        if foretold is not None and k:
            self._downdate(
                foretold.first, foretold.factor[:k, :k], foretold.projected[:k], foretold.cross[:k]
            )
            self._foretold, self._accepted = None, 0

    def _cross(self, position: int, count: int) -> Tensor:
        """P at the features of channels from a position on, and of all from there on."""
        rows = self._rows(position, count)
        rest = slice(rows.start, None)
        return self._sides.taken_from(self._entries(rows, rest), rows, rest)

    def _downdate(self, first: int, factor: Tensor, projected: Tensor, cross: Tensor) -> None:
        """Take channels from a position on out of all after them."""
        start, k = first * self._block, len(factor)
        right = torch.linalg.solve_triangular(factor, cross[:, k:], upper=False).mT
        self._sides.append(torch.cat([factor, right]), start)
        self._projections.append(projected)
        self._weights[start + k :].addmm_(right, projected, alpha=-1)
        by_channel = right.reshape(-1, self._block, k)
        self._blocks[first + k // self._block :].baddbmm_(by_channel, by_channel.mT, alpha=-1)
