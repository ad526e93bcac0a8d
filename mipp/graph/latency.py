"""Time of a network as a function of its widths: a table per module, read by interpolation."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Widths = Mapping[str, tuple[int, int]]  # module -> input and output features that remain


@dataclass(frozen=True)
class WidthCurve:
    """Milliseconds of one module at some widths of its two sides.

    A side whose width no group changes has one entry.
    """

    inputs: tuple[int, ...]  # rising
    outputs: tuple[int, ...]  # rising
    ms: npt.NDArray[np.float64]  # (inputs, outputs)
    elements: int  # of the module's output, per output feature
    _known: dict[tuple[int, int], float] = field(default_factory=dict, compare=False, repr=False)

    def at(self, inputs: int, outputs: int) -> float:
        """Milliseconds by linear interpolation in both widths; constant beyond the last ones."""
        if (inputs, outputs) not in self._known:
            row, down = _bracket(self.inputs, inputs)
            column, right = _bracket(self.outputs, outputs)
            corners = self.ms[np.ix_(row, column)]
            self._known[inputs, outputs] = float(
                np.array([1 - down, down]) @ corners @ np.array([1 - right, right])
            )
        return self._known[inputs, outputs]


def _bracket(widths: Sequence[int], width: int) -> tuple[list[int], float]:
    """The two entries that a width lies between, and its share of the way to the second."""
    if width <= widths[0] or len(widths) == 1:
        return [0, 0], 0.0
    right = min(bisect_right(widths, width), len(widths) - 1)
    left = right - 1
    share = (width - widths[left]) / (widths[right] - widths[left])
    return [left, right], min(share, 1.0)


def rising(ms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same times where none falls as a width grows: the mean of the two nearest such tables.

    What a search by bisection relies on, and what noise of the clock would break.
    """
    above, below = ms, ms[::-1, ::-1]
    for axis in (0, 1):
        above = np.maximum.accumulate(above, axis)
        below = np.minimum.accumulate(below, axis)
    return (above + below[::-1, ::-1]) / 2


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of a forward pass of one batch, when modules have given widths.

    `scale` times the modules' own times, plus `per_element` times the elements that they write
    (activations, pooling and sums are proportional to these), plus a `constant`.
    """

    curves: Mapping[str, WidthCurve]
    scale: float = 1.0
    per_element: float = 0.0
    constant: float = 0.0

    def milliseconds(self, widths: Widths) -> float:
        """Predicted time at these widths of every module of the table."""
        modules, elements = self.parts(widths)
        return self.constant + self.scale * modules + self.per_element * elements

    def parts(self, widths: Widths) -> tuple[float, float]:
        """Milliseconds of all modules alone, and the elements that they write."""
        ms, elements = 0.0, 0.0
        for name, curve in self.curves.items():
            inputs, outputs = widths[name]
            ms += curve.at(inputs, outputs)
            elements += curve.elements * outputs
        return ms, elements

    def to_json(self) -> dict[str, Any]:
        """Plain values of the table; modules of equal shape share one curve."""
        shared: dict[int, dict[str, Any]] = {}
        for name, curve in self.curves.items():
            values = {
                "inputs": curve.inputs,
                "outputs": curve.outputs,
                "ms": np.round(curve.ms, 6).tolist(),
            }
            shared.setdefault(id(curve), {"modules": [], **values})["modules"].append(name)
        return {
            "curves": list(shared.values()),
            "scale": self.scale,
            "ms_per_element": self.per_element,
            "ms_constant": self.constant,
        }
