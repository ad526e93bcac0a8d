"""Calibration data as a Python user has it: any loader, of inputs or of (inputs, labels)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mipp.errors import DataError
from mipp.inputs import Inputs, count, each

Batch = tuple[Inputs, Tensor | None]


def collect(calibration: Iterable[Any], images: int, device: torch.device) -> list[Batch]:
    """The first inputs, with their labels where the loader gives them, on a device.

    Raises
    ------
    DataError : there is none, or their labels are sorted.
    """
    batches: list[Batch] = []
    found = 0
    for item in [calibration] if isinstance(calibration, Tensor) else calibration:
        x, y = (*item, None)[:2] if isinstance(item, (tuple, list)) else (item, None)
        left = images - found
        x = each(x, partial(_first, count=left, device=device))
        y = y[:left].to(device) if isinstance(y, Tensor) else None
        batches.append((x, y))
        found += count(x)
        if found >= images:
            break
    if not found:
        raise DataError(
            "calibration holds no inputs.\nExpected batches of inputs (n, ...) or of (inputs, "
            "labels), got none; if it is a generator, it may have been used up: pass a loader."
        )
    _require_shuffled(batches)
    return batches


def _first(tensor: Tensor, count: int, device: torch.device) -> Tensor:
    return tensor[:count].to(device)


def _require_shuffled(batches: list[Batch]) -> None:
    labels = [y for _, y in batches if y is not None and y.ndim == 1]
    flat = torch.cat(labels) if labels else torch.empty(0)
    if len(flat) >= 64 and bool((flat.diff() >= 0).all()):
        raise DataError(
            f"calibration is sorted by class.\nExpected a random sample, got {len(flat)} labels "
            "in ascending order, which biases every statistic; shuffle the loader."
        )


def labelled(batches: Iterable[Batch]) -> Iterator[tuple[Inputs, Tensor]]:
    """The same batches, all of which have to have labels.

    Raises
    ------
    DataError : one has none.
    """
    for x, y in batches:
        if y is None:
            raise DataError(
                "this criterion needs labels.\nExpected batches of (inputs, labels), got inputs "
                "alone; pass labelled batches or method='mipp'."
            )
        yield x, y
