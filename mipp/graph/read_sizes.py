"""Numbers that forward reads off one tensor and lays another out by: both shrink as one.

n, t, c = x.shape                                  c counts the channels of x
mixed.reshape(n, t, c)                             channel j of both goes, or neither
qkv(x).reshape(n, t, 3, heads, c // heads)         a head goes with its part of x
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any, Self

import torch
from torch import Tensor

from mipp.graph.grouping import components_of
from mipp.graph.label_axes import constant, varying_axes
from mipp.graph.layouts import names_of
from mipp.graph.record import NONE, Labels, Layout
from mipp.graph.tracker import Place, Tracker

SHAPE = torch.Tensor.shape.__get__  # type: ignore[attr-defined]
LAYS_OUT = {"view", "reshape", "unflatten", "split", "split_with_sizes"}


class Size(int):
    """The length of an axis, or of one of its equal parts, that knows the labels along it."""

    labels: Labels
    axis: int
    parts: int

    @classmethod
    def of(cls, labels: Labels, axis: int, parts: int = 1) -> Self:
        """The length of each of so many parts of an axis."""
        size = cls(labels.shape[axis] // parts)
        size.labels, size.axis, size.parts = labels, axis, parts
        return size

    def __floordiv__(self, other: Any) -> Any:
        quotient, odd = divmod(int(self), other)
        return quotient if odd else Size.of(self.labels, self.axis, self.parts * other)

    def __mul__(self, other: Any) -> Any:
        product = int(self) * other
        within = isinstance(other, int) and other > 0 and self.parts % other == 0
        return Size.of(self.labels, self.axis, self.parts // other) if within else product

    __rmul__ = __mul__

    def __reduce__(self) -> Any:
        return int, (int(self),)


def line_of(labels: Labels, axis: int) -> Labels:
    """One label of each place along an axis."""
    return labels.movedim(axis, 0).reshape(labels.shape[axis], -1).amax(1)


def reads_size(function: Any) -> bool:
    """Whether a function of torch gives the shape of a tensor, or a part of it."""
    return function is torch.Tensor.size or function == SHAPE


def read(tracker: Tracker, sizes: Any, tensor: Tensor, dim: int = 0) -> Any:
    """The same shape, or length of an axis, of numbers that know what they count."""
    labels = tracker.known_labels(tensor)
    if labels is None:
        return sizes
    for axis, size in enumerate(tensor.shape):
        _note_number(tracker, labels, axis, size)
    if isinstance(sizes, torch.Size):
        return torch.Size([Size.of(labels, axis) for axis in range(labels.ndim)])
    return Size.of(labels, dim)


def follow_layout(
    tracker: Tracker, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], made: Any
) -> None:
    """A layout by numbers that count the channels of another tensor couples the two."""
    if name.startswith("split"):
        _follow_split(tracker, *args[1:], **kwargs, parts=made)
        return
    labels = tracker.known_labels(made)
    if labels is None:
        return
    named = (kwargs.get(key) for key in ("dim", "sizes", "size", "shape"))
    first, numbers = 0, list(_numbers((*args[1:], *named)))
    if name == "unflatten":
        first, numbers = numbers[0] % args[0].ndim, numbers[1:]
    for axis, number in enumerate(numbers, first):
        if isinstance(number, Size):
            _couple(tracker, number, labels, axis)
        else:
            _note_number(tracker, labels, axis, number)


def _follow_split(tracker: Tracker, *given: Any, parts: Any, dim: int = 0, **named: Any) -> None:
    """Parts of given lengths; one length is that of all."""
    sizes, *axis = (*named.values(), *given)
    for number, part in zip(cycle(_numbers(sizes)), parts, strict=False):
        labels = tracker.known_labels(part)
        if isinstance(number, Size) and labels is not None:
            _couple(tracker, number, labels, (axis or [dim])[0] % labels.ndim)


def _note_number(tracker: Tracker, labels: Labels, axis: int, number: int) -> None:
    """The running module, or a part of it, may keep this number of channels."""
    holders = [place for place in _holders(tracker) if names_of(place.module, number)]
    if holders and not constant(labels, axis):
        line = line_of(labels, axis)
        layouts = (Layout(place.name, line, divides=False) for place in holders)
        tracker.record.layouts.extend(layouts)


def _holders(tracker: Tracker) -> Iterator[Place]:
    """The running module and parts of it, of which it may run methods, that are no layers."""
    place = tracker.scope[-1] if tracker.scope else tracker.places[""]
    parts = (f"{place.name}.{key}".lstrip(".") for key, _ in place.module.named_children())
    places = (tracker.places.get(name) for name in (place.name, *parts))  # a shared one has no name
    return (found for found in places if found is not None and not found.known)


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _numbers(part)


def _couple(tracker: Tracker, size: Size, labels: Labels, axis: int) -> None:
    if constant(labels, axis) or not _counts_channels(tracker, size):
        return
    line = line_of(size.labels, size.axis)
    if bool(torch.isin(line, labels).any()):  # it is laid out by its own length
        return
    shape = [1] * labels.ndim
    shape[axis] = len(line) // size.parts
    if size.parts > 1:
        whole = _axis_of_parts(labels, axis, size.parts)
        if whole is None:
            return
        _note_parts(tracker, labels, whole)
        shape[whole] = size.parts
        line = line if whole < axis else line.view(size.parts, -1).t()
    else:  # which goes with which does not matter: what belongs together stays so
        line = line[line_of(labels, axis).argsort(stable=True).argsort()]
    tracker.record.couple(labels, line.reshape(shape).expand(labels.shape))


def _counts_channels(tracker: Tracker, size: Size) -> bool:
    """Whether an axis is that of channels, and not of the features of each head."""
    if varying_axes(size.labels) == [size.axis]:
        return True
    component = torch.from_numpy(components_of(tracker.record))  # of rows that a norm coupled, say
    owners = torch.where(size.labels >= 0, component[size.labels], NONE)
    return varying_axes(owners) == [size.axis]


def _axis_of_parts(labels: Labels, axis: int, parts: int) -> int | None:
    """The axis beside one of features along which the parts lie, the nearest before it first."""
    others = (*range(axis - 1, -1, -1), *range(axis + 1, labels.ndim))
    fitting = (a for a in others if labels.shape[a] == parts and not constant(labels, a))
    return next(fitting, None)


def _note_parts(tracker: Tracker, labels: Labels, axis: int) -> None:
    """The number of parts shrinks with them, if it is clear where the module keeps it."""
    place = tracker.scope[-1] if tracker.scope else tracker.places[""]
    names = names_of(place.module, labels.shape[axis])
    if len(names) > 1:
        names = [name for name in names if "head" in name]
    if len(names) == 1:
        found = tracker.record.sizes.setdefault((place.name, names[0]), [])
        found.append(line_of(labels, axis))
