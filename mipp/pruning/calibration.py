"""Calibration data: any loader, of inputs or of (inputs, labels), or what reads them anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mipp.device import device_of
from mipp.errors import DataError, option
from mipp.finite import require_finite_inputs
from mipp.inputs import Inputs, count, each
from mipp.progress import say
from mipp.pruning.first_batch import checked

Batch = tuple[Inputs, Tensor | None]


@runtime_checkable
class Calibration(Protocol):
    """Inputs that can be read again and again, the same every time, on the network's device."""

    def count(self) -> int:
        """How many inputs there are."""

    def example(self) -> Inputs:
        """One input, shape (1, ...)."""

    def inputs(self) -> Iterable[Inputs]:
        """All inputs in batches."""

    def labelled(self) -> Iterable[tuple[Inputs, Tensor]]:
        """The same batches with their labels."""


class Held:
    """The first inputs that a loader gives, in memory, with their labels where it has them.

    Raises
    ------
    DataError : there is none, one holds NaN or infinity, or their labels are sorted.
    """

    def __init__(self, model: nn.Module, loader: Iterable[Any], images: int) -> None:
        self.batches = list(first_batches(model, loader, images))
        require_shuffled([y for _, y in self.batches])

    def count(self) -> int:
        return sum(count(x) for x, _ in self.batches)

    def example(self) -> Inputs:
        return each(self.batches[0][0], lambda tensor: tensor[:1])

    def inputs(self) -> list[Inputs]:
        return [x for x, _ in self.batches]

    def labelled(self) -> Iterator[tuple[Inputs, Tensor]]:
        return with_labels(self.batches)


def first_batches(model: nn.Module, loader: Iterable[Any], images: int) -> Iterator[Batch]:
    """So many inputs of a loader on the network's device, checked, with labels where it has them.

    Raises
    ------
    DataError : there is none, or one holds NaN or infinity.
    """
    device, left = device_of(model), images
    for number, (x, y) in enumerate(checked(model, loader)):
        x = each(x, partial(_first, count=left, device=device))
        y = _first(y, left, device) if isinstance(y, Tensor) and y.ndim else None
        require_finite_inputs(x, number)
        yield x, y
        left -= count(x)
        if not left:
            return
    if left == images:
        raise DataError(
            "calibration holds no inputs.\nExpected batches of inputs (n, ...) or of (inputs, "
            "labels), got none; if it is a generator, it may have been used up: pass a loader."
        )


def with_labels(batches: Iterable[Batch]) -> Iterator[tuple[Inputs, Tensor]]:
    """The same batches, all of which have to have labels.

    Raises
    ------
    DataError : one has none.
    """
    for x, y in batches:
        if y is None:
            raise DataError(
                "this criterion needs labels.\nExpected batches of (inputs, labels), got "
                f"inputs alone; pass labelled batches or {option('method')}='mipp'."
            )
        yield x, y


def held_out(
    model: nn.Module, loader: Iterable[Any], images: int
) -> tuple[list[Batch], list[Batch]]:
    """The first inputs of a loader: four of every five to calibrate with, the others to judge by.

    Raises
    ------
    DataError : they have no labels.
    """
    kept: list[Batch] = []
    judged: list[Batch] = []
    seen = 0
    for x, y in Held(model, loader, images).batches:
        if y is None:
            raise DataError(
                f"{option('budget')}=drop:X needs labels to tell how good a network is.\nExpected "
                "validation= with batches of (inputs, labels), or such as calibration, got inputs "
                "alone; pass validation."
            )
        fifth = torch.arange(seen, seen + len(y), device=y.device) % 5 == 4
        kept.append((each(x, itemgetter(~fifth)), y[~fifth]))
        judged.append((each(x, itemgetter(fifth)), y[fifth]))
        seen += len(y)
    say(f"{seen // 5} calibration inputs are held out to judge networks by, without validation=")
    return kept, judged


def _first(tensor: Tensor, count: int, device: torch.device) -> Tensor:
    """Its first inputs, such as autograd can use."""
    taken = tensor.detach()[:count].to(device)
    return taken.clone() if taken.is_inference() else taken


def require_shuffled(labels: Iterable[Tensor | None]) -> None:
    """Refuse labels of batches that are all one, or ascend.

    Raises
    ------
    DataError : says which.
    """
    classes = [y for y in labels if y is not None and y.ndim == 1]
    flat = torch.cat(classes) if classes else torch.empty(0, device="cpu")
    if len(flat) >= 64 and bool((flat == flat[0]).all()):
        raise DataError(
            f"calibration holds one class.\nExpected a random sample, got {len(flat)} labels, all "
            f"{flat[0].item()}; take images of all classes, as DataLoader(..., shuffle=True) does."
        )
    if len(flat) >= 64 and bool((flat.diff() >= 0).all()):
        raise DataError(
            f"calibration is sorted by class.\nExpected a random sample, got {len(flat)} labels "
            "in ascending order, which biases every statistic; shuffle the loader."
        )
