"""What a forward pass showed about channels: who makes, carries and reads each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mipp.graph.outputs import Outputs
from mipp.graph.reasons import Reason

Labels = Tensor  # int64, the shape of the tensor that it labels; -1: not a channel's
NONE = -1
SOMETIMES = "and not always on channels that can be cut"
Role = Literal["producers", "passengers", "consumers"]


class Uncovered(Exception):
    """An overload of an operator that the rule for it does not cover."""


@dataclass(frozen=True)
class Touch:
    """One side of a module, or a bare parameter, with the label of each of its features."""

    module: str
    labels: np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Layout:
    """Channels as a view, a split or slices lay them out, an axis for each that tells them apart.

    (heads, features of a head)     what `x.view(n, t, heads, size)` makes of a linear's outputs
    (parts, features of a part)     the halves of `x.chunk(2, 1)`
    """

    module: str  # that was running
    labels: Labels
    divides: bool  # it makes several axes of one


class Reduction(NamedTuple):
    """An operator that computes one value of many channels, such as their mean."""

    module: str  # that runs it itself
    before: int  # reductions that the module has run by then
    axis: int  # of the channels, from the last


@dataclass(frozen=True)
class Multiplied:
    """Multiply-accumulates of an operator, with the labels of its two factors where it has such.

    `left` is (..., rows, summed) and `right` (..., summed, columns), of 1 where labels are the
    same all along an axis; `heads` is the running module whose heads are known as its channels.
    """

    macs: int
    left: Labels | None = None
    right: Labels | None = None
    heads: str | None = None


@dataclass
class Record:
    """All that a forward pass showed about labels."""

    producers: list[Touch] = field(default_factory=list)
    passengers: list[Touch] = field(default_factory=list)
    consumers: list[Touch] = field(default_factory=list)
    statistics: list[Touch] = field(default_factory=list)  # by key of the reductions
    reductions: dict[str, Reduction] = field(default_factory=dict)
    parameters: dict[str, Labels] = field(default_factory=dict)  # bare ones, label per element
    sizes: dict[tuple[str, str], list[Labels]] = field(default_factory=dict)  # module, attribute
    layouts: list[Layout] = field(default_factory=list)
    # of one axis of channels: module, first label and length -> slices by their least label
    slices: dict[tuple[str, int, int], dict[int, Labels]] = field(default_factory=dict)
    heads: list[tuple[str, Labels]] = field(default_factory=list)  # module, what it attends by
    edges: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    fixed: list[tuple[Tensor, Reason]] = field(default_factory=list)
    joined: list[tuple[Tensor, Reason]] = field(default_factory=list)  # why it may be a single unit
    along_places: dict[str, Labels] = field(default_factory=dict)  # layer -> channels it runs by
    macs: dict[str, int] = field(default_factory=dict)  # of layers
    multiplied: list[Multiplied] = field(default_factory=list)  # beside them
    outputs: Outputs = field(default_factory=Outputs)
    count: int = 0

    def touch(self, role: Role, module: str, labels: Labels) -> None:
        """A call of a module has these labels on one side; later calls are coupled to the first."""
        touches: list[Touch] = getattr(self, role)
        first = next((touch for touch in touches if touch.module == module), None)
        if first is None:
            touches.append(Touch(module, labels.numpy()))
            return
        before = torch.from_numpy(first.labels)
        self.couple(before, labels)
        lost = (before < 0) != (labels < 0)
        reason = Reason("values", f"{module} runs more than once, {SOMETIMES}")
        self.fix(torch.maximum(before, labels)[lost], reason)

    def fresh(self, shape: Sequence[int]) -> Labels:
        """Labels that nothing has had yet."""
        size = int(np.prod(shape))
        start, self.count = self.count, self.count + size
        return torch.arange(start, start + size, device="cpu").reshape(tuple(shape))

    def fix(self, labels: Labels | None, reason: Reason) -> None:
        """These channels cannot go."""
        if labels is not None:
            found = torch.unique(labels[labels >= 0])
            if len(found):
                self.fixed.append((found, reason))

    def join(self, labels: Labels, axis: int, reason: Reason) -> Labels:
        """All along an axis can only go together; one of each, (..., 1, ...)."""
        first = labels.amax(axis, keepdim=True)  # `NONE` is less than any label
        self.couple(first.expand(labels.shape), labels)
        self.joined.append((torch.unique(first[first >= 0]), reason))
        return first

    def is_bare(self, labels: Labels) -> bool:
        """Whether all of these are elements of bare parameters."""
        held = labels[labels >= 0]
        inside = torch.zeros(held.shape, dtype=torch.bool, device="cpu")
        for own in filter(Tensor.numel, self.parameters.values()):  # one may have no element
            inside |= (held >= own.min()) & (held <= own.max())
        return bool(inside.all())

    def couple(self, first: Labels, second: Labels) -> None:
        """Labels at the same place can only go together."""
        differ = (first >= 0) & (second >= 0) & (first != second)
        if bool(differ.any()):
            keys = first[differ] * self.count + second[differ]
            keys = torch.unique(keys)
            self.edges.append((keys // self.count, keys % self.count))
