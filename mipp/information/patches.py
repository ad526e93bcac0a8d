"""Sums over the patches of maps hardly larger than the kernel: many taps lie beyond the border.

Of a map of 2 x 2 pixels a kernel of 3 x 3 sees four at each of the four positions, and the same
four at all of them, at other taps.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

CHANNELS = 64  # fewer are as fast in one product
TAKEN = 0.6  # share of all products that may be left, without those that zeros take part in
PATTERNS = 16  # of taps in a chunk: more have too few rows each
Key = TypeVar("Key", bound=Hashable)


def mostly_border(x: Tensor) -> bool:
    """Whether products of the taps that hold something are worth being told from the others.

    Never on a GPU, which multiplies the zeros too in less time than it takes to find them.

    Parameters
    ----------
    x : rows (n, channels, taps), or of another shape, which are not.
    """
    if x.ndim != 3 or x.shape[1] < CHANNELS or x.shape[2] == 1 or x.device.type != "cpu":
        return False
    return float(_inside(x).double().mean(1).square().mean()) <= TAKEN


class PatchSums:
    """x'x and x'y of rows in which whole taps are zero, on the CPU; what never meets is not held.

    Products and sums of a chunk have the precision of its rows, chunks add up in float64.

    Parameters
    ----------
    channels, taps, targets : of the rows to come; d = channels * taps.
    """

    def __init__(self, channels: int, taps: int, targets: int) -> None:
        self._shape = channels, taps, targets
        self._xx: dict[tuple[int, int], Tensor] = {}  # two taps, in order -> (channels, channels)
        self._xy: dict[int, Tensor] = {}  # tap -> (channels, targets)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add a chunk: x is (n, channels, taps), y is (n, targets)."""
        xx: dict[tuple[int, int], Tensor] = {}
        xy: dict[int, Tensor] = {}
        for part in _parts(x):
            for i, one in enumerate(part.pixels):
                for j, other in enumerate(part.pixels[i:], i):
                    product = one @ other.mT
                    for taps, _ in part.seen:
                        _add_to(xx, (taps[i], taps[j]), product)
                for taps, rows in part.seen:
                    _add_to(xy, taps[i], one @ y[rows])
        _add_all(self._xx, xx)
        _add_all(self._xy, xy)

    def take(self) -> tuple[Tensor, Tensor, Tensor]:
        """x'x (d, d), x'y (d, targets), handed over, and whether two taps met (taps, taps)."""
        channels, taps, targets = self._shape
        xy = torch.zeros(channels, taps, targets, dtype=torch.float64, device="cpu")
        for tap, product in self._xy.items():
            xy[:, tap] = product
        xx = torch.zeros(channels, taps, channels, taps, dtype=torch.float64, device="cpu")
        met = torch.zeros(taps, taps, dtype=torch.bool, device="cpu")
        while self._xx:
            (tap, other), product = self._xx.popitem()
            xx[:, tap, :, other], xx[:, other, :, tap] = product, product.mT
            met[tap, other] = met[other, tap] = True
        return xx.view(channels * taps, channels * taps), xy.view(channels * taps, targets), met


@dataclass(frozen=True)
class _Part:
    """Pixels under the kernel, and at which taps which rows see them."""

    pixels: Tensor  # (pixels, channels, rows)
    seen: list[tuple[list[int], Tensor]]


def _parts(x: Tensor) -> list[_Part]:
    """Rows by the taps that hold something; those that hold the same are one part."""
    patterns, number = torch.unique(_inside(x), dim=0, return_inverse=True)
    if len(patterns) > PATTERNS:
        patterns, number = torch.ones_like(patterns[:1]), torch.zeros_like(number)
    parts: list[_Part] = []
    for i, pattern in enumerate(patterns):
        taps, rows = pattern.nonzero().flatten(), (number == i).nonzero().flatten()
        pixels = x[rows][:, :, taps].permute(2, 1, 0).contiguous()
        same = (part for part in parts if torch.equal(part.pixels, pixels))
        part = next(same, None)
        if part is None:
            part = _Part(pixels, [])
            parts.append(part)
        part.seen.append((taps.tolist(), rows))
    return parts


def _inside(x: Tensor) -> Tensor:
    """Whether a tap of a row holds anything, shape (n, taps)."""
    return (x != 0).any(1)


def _add_all(sums: dict[Key, Tensor], more: dict[Key, Tensor]) -> None:
    """To sums in float64, in place."""
    for key, product in more.items():
        if key in sums:
            sums[key] += product
        else:
            sums[key] = product.to(torch.float64, copy=True)


def _add_to(sums: dict[Key, Tensor], key: Key, product: Tensor) -> None:
    """The product itself may be a sum's first part, so that no sum is changed in place."""
    sums[key] = sums[key] + product if key in sums else product
