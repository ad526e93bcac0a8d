"""What an adapter answers with, as plain values: sides, costs, windows, maps, norms, heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """Features on one side of a layer: how many, where they lie, and what goes with them.

    Parameters
    ----------
    axis : of what its operator reads or gives: 1 for channels of a map, -1 for those of tokens.
    tensors : parameter or buffer -> its axis along which the features lie; may be None in a module.
    sizes : attributes that count the features, or what is in proportion to them.
    units : features that only go together, (units, block); each feature is one by default.
    """

    features: int
    axis: int = 1
    tensors: Mapping[str, int] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()
    units: IntArray | None = None

    def each(self) -> IntArray:
        """Features of every unit, (units, block)."""
        return np.arange(self.features)[:, None] if self.units is None else self.units


@dataclass(frozen=True)
class Cost:
    """Parameters by what they grow with: both sides' features, or those of the outputs alone."""

    in_features: int
    out_features: int
    weights: int = 0  # in proportion to inputs times outputs
    per_output: int = 0
    part: float = 1.0  # of what it multiplies, that grows with inputs times outputs


@dataclass(frozen=True)
class Window:
    """Kernel size, stride, dilation and padding before the first place, by axis of the map."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]


@dataclass(frozen=True)
class LinearMap:
    """What a layer makes of sampled rows: y = sum over features and block of x * weight + bias.

    With more `parts` than one it is block-diagonal: the first part of the outputs reads the first
    part of the features alone, and so on.
    """

    weight: Tensor  # (outputs, features, block)
    bias: Tensor | None
    parts: int = 1


@dataclass(frozen=True)
class Statistics:
    """A norm of each feature on its own, when it evaluates; the tensors are the module's own."""

    mean: Tensor
    variance: Tensor
    eps: float
    scale: Tensor | None
    shift: Tensor | None


@dataclass(frozen=True)
class Heads:
    """Attention heads as channels: what makes and what reads each, and what else is a head's.

    `makes` and `reads` are by part of the module ("" for itself), features (heads, block);
    `parameters` by name, with the axis along which heads lie; `sizes` are attributes with
    what each head adds to them.
    """

    makes: Mapping[str, IntArray]
    reads: Mapping[str, IntArray]
    parameters: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
