"""Means over the calibration images, whatever the size of the batches that bring them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.inputs import Inputs, count, each, joined


def labelled_images(given: CriterionInput, images: int | None) -> Iterator[tuple[Inputs, Tensor]]:
    """Batches of the first images, all of them where `images` is None."""
    left = images
    for inputs, labels in given.batches():
        if left is not None and left <= count(inputs):
            yield each(inputs, partial(_rows, start=0, stop=left)), labels[:left]
            return
        left = None if left is None else left - count(inputs)
        yield inputs, labels


def first_inputs(given: CriterionInput, images: int, size: int) -> Iterator[Inputs]:
    """The first images without labels, so many at a time whatever the size of the batches."""
    taken: list[Inputs] = []
    for inputs in given.inputs():
        taken.append(inputs)
        if sum(map(count, taken)) >= images:
            break
    whole = joined(taken)
    for start in range(0, min(images, count(whole)), size):
        yield each(whole, partial(_rows, start=start, stop=min(start + size, images)))


def images_in_batches(given: CriterionInput, images: int, size: int) -> list[tuple[Inputs, Tensor]]:
    """The first images again, so many at a time, a lone last one left out."""
    parts = list(labelled_images(given, images))
    inputs, labels = joined([x for x, _ in parts]), joined([y for _, y in parts])
    assert isinstance(labels, Tensor)
    starts = [s for s in range(0, len(labels), size) if s == 0 or s + 1 < len(labels)]
    return [
        (each(inputs, partial(_rows, start=s, stop=s + size)), labels[s : s + size]) for s in starts
    ]


def minibatches(given: CriterionInput, size: int) -> Iterator[list[tuple[Inputs, Tensor]]]:
    """All images, so many at a time; each time as parts that are no larger than they come.

    Batches of 100 and a size of 256 give parts of 100, 100 and 56, then 44, 100, 100 and 12.
    """
    parts: list[tuple[Inputs, Tensor]] = []
    room = size
    for inputs, labels in given.batches():
        start = 0
        while start < len(labels):
            stop = min(start + room, len(labels))
            parts.append((each(inputs, partial(_rows, start=start, stop=stop)), labels[start:stop]))
            room, start = room - (stop - start), stop
            if room == 0:
                yield parts
                parts, room = [], size
    if parts:
        yield parts


def mean_over_images(
    given: CriterionInput,
    sums: Callable[[Inputs, Tensor], Sequence[Tensor]],
    images: int | None = None,
) -> list[Tensor]:
    """Tensors summed over the images, divided by their number.

    Parameters
    ----------
    sums : what the images of one batch and their labels add.
    """
    totals: list[Tensor] = []
    seen = 0
    for inputs, labels in labelled_images(given, images):
        found = sums(inputs, labels)
        totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else list(found)
        seen += count(inputs)
    return [total / seen for total in totals]


def _rows(x: Tensor, start: int, stop: int) -> Tensor:
    return x[start:stop]
