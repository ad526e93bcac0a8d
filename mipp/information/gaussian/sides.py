"""What has been taken from a precision matrix by now: products of the sides of what went.

P - S S' with a column of S per dropped feature; all columns lie in one matrix, so that what they
take from any part of P is one product.
"""

from __future__ import annotations

from torch import Tensor


class Sides:
    """S, which grows to the right.

    Parameters
    ----------
    start : (features, k), a matrix or an indexed part of one, copied.
    room : for so many more columns; more is made where they are not enough.

    >>> import torch
    >>> sides = Sides(torch.zeros(3, 0), room=1)
    >>> sides.append(torch.tensor([[1.0], [2.0], [3.0]]))
    >>> sides.taken_from(torch.zeros(1, 2), slice(0, 1), slice(1, 3))
    tensor([[-2., -3.]])
    """

    def __init__(self, start: Tensor, room: int) -> None:
        self._count = start.shape[1]
        self._all = start.new_empty(len(start), self._count + room)
        self.columns.copy_(start)

    @property
    def columns(self) -> Tensor:
        """Those that are there, (features, k)."""
        return self._all[:, : self._count]

    def append(self, columns: Tensor, first: int = 0) -> None:
        """More columns, (features - first, j), of zeros before the first feature."""
        count, stop = self._count, self._count + columns.shape[1]
        if stop > self._all.shape[1]:
            self._all = Sides(self.columns, max(stop - count, count // 2))._all
        self._all[:first, count:stop] = 0
        self._all[first:, count:stop] = columns
        self._count = stop

    def taken_from(self, entries: Tensor, rows: Tensor | slice, columns: Tensor | slice) -> Tensor:
        """Entries of P at these features, less what was taken; in place."""
        left, right = (self.columns[some] for some in (rows, columns))
        return entries.addmm_(left, right.mT, alpha=-1)

    def shorten(self, count: int) -> None:
        """Leave the first columns only."""
        self._count = count
