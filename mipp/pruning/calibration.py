"""Calibration data: any loader, of inputs or of (inputs, labels), or what reads them anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mipp.device import device_of
from mipp.errors import DataError, option
from mipp.finite import require_finite_inputs
from mipp.inputs import Inputs, count, each
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
        self._batches: list[Batch] = []
        self._count = 0
        device = device_of(model)
        for x, y in checked(model, loader):
            left = images - self._count
            x = each(x, partial(_first, count=left, device=device))
            y = _first(y, left, device) if isinstance(y, Tensor) and y.ndim else None
            require_finite_inputs(x, len(self._batches))
            self._batches.append((x, y))
            self._count += count(x)
            if self._count >= images:
                break
        if not self._count:
            raise DataError(
                "calibration holds no inputs.\nExpected batches of inputs (n, ...) or of (inputs, "
                "labels), got none; if it is a generator, it may have been used up: pass a loader."
            )
        _require_shuffled(self._batches)

    def count(self) -> int:
        return self._count

    def example(self) -> Inputs:
        return each(self._batches[0][0], lambda tensor: tensor[:1])

    def inputs(self) -> list[Inputs]:
        return [x for x, _ in self._batches]

    def labelled(self) -> Iterator[tuple[Inputs, Tensor]]:
        """The same batches, all of which have to have labels.

        Raises
        ------
        DataError : one has none.
        """
        for x, y in self._batches:
            if y is None:
                raise DataError(
                    "this criterion needs labels.\nExpected batches of (inputs, labels), got "
                    f"inputs alone; pass labelled batches or {option('method')}='mipp'."
                )
            yield x, y


def _first(tensor: Tensor, count: int, device: torch.device) -> Tensor:
    """Its first inputs, such as autograd can use."""
    taken = tensor.detach()[:count].to(device)
    return taken.clone() if taken.is_inference() else taken


def _require_shuffled(batches: list[Batch]) -> None:
    labels = [y for _, y in batches if y is not None and y.ndim == 1]
    flat = torch.cat(labels) if labels else torch.empty(0, device="cpu")
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
