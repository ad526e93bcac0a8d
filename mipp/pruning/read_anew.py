"""Large calibration data of a data loader, read anew for every pass rather than held.

DataLoader(photos, 32, shuffle=True)      its order is drawn once; each pass reads the same files
DataLoader(photos with random crops)      other images every time: held
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from mipp.errors import DataError, option
from mipp.inputs import Inputs, count, each, tensors_of
from mipp.pruning.calibration import (
    Batch,
    Calibration,
    Held,
    first_batches,
    require_shuffled,
    with_labels,
)
from mipp.pruning.first_batch import checked

LARGE = 2**28  # bytes of inputs up to which they are held, which saves reading them again


def calibration_of(model: nn.Module, loader: Any, images: int) -> Calibration:
    """The first inputs of any loader: of a `DataLoader` read anew, if they are many bytes and the
    same when read again; of others, such as generators, held.

    Raises
    ------
    DataError : there is none, one holds NaN or infinity, or their labels are sorted.
    """
    if _is_worth_reading_anew(model, loader, images):
        return ReadAnew(model, _in_fixed_order(loader, images), images)
    return Held(model, loader, images)


class ReadAnew:
    """The first inputs of a loader, of which a batch at a time is in memory.

    Raises
    ------
    DataError : as for inputs that are held; or a pass reads others than the first one did.
    """

    def __init__(self, model: nn.Module, loader: DataLoader[Any], images: int) -> None:
        self._read = partial(first_batches, model, loader, images)
        self._sums: list[list[float]] = []
        self._count, labels = 0, []
        for x, y in self._read():
            if not self._sums:
                self._example = each(x, lambda tensor: tensor[:1].clone())
            self._sums.append(_sums(x))
            self._count += count(x)
            labels.append(y)
        require_shuffled(labels)

    def count(self) -> int:
        return self._count

    def example(self) -> Inputs:
        return self._example

    def inputs(self) -> Iterator[Inputs]:
        return (x for x, _ in self._batches())

    def labelled(self) -> Iterator[tuple[Inputs, Tensor]]:
        return with_labels(self._batches())

    def _batches(self) -> Iterator[Batch]:
        for number, (x, y) in enumerate(self._read()):
            if _sums(x) != self._sums[number]:
                raise DataError(
                    f"{option('calibration')} gives other inputs in every pass.\nExpected those of "
                    f"the first pass at batch {number}, got others, as random augmentation makes "
                    "them; leave it out, or pass list(loader), which is held in memory."
                )
            yield x, y


def _in_fixed_order(loader: DataLoader[Any], images: int) -> DataLoader[Any]:
    """The first batches of a loader, in the order that it draws now."""
    assert loader.batch_sampler is not None
    order: list[list[int]] = []
    for indices in loader.batch_sampler:
        order.append(indices)
        if sum(map(len, order)) >= images:
            break
    return DataLoader(
        loader.dataset,
        batch_sampler=order,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
    )


def _is_worth_reading_anew(model: nn.Module, loader: Any, images: int) -> bool:
    """Whether inputs are large, and the same when they are read again."""
    if type(loader) is not DataLoader or type(loader.batch_sampler) is not BatchSampler:
        return False
    if isinstance(loader.dataset, IterableDataset):
        return False
    with _undrawn(loader):
        fixed = _in_fixed_order(loader, images)
        inputs = min(images, sum(map(len, fixed.batch_sampler)))  # type: ignore[arg-type]
        one, _ = next(checked(model, fixed), (None, None))
        if one is None or inputs * sum(t[0].nbytes for t in tensors_of(one)) <= LARGE:
            return False
        return _sums(one) == _sums(next(checked(model, fixed))[0])


@contextmanager
def _undrawn(loader: DataLoader[Any]) -> Iterator[None]:
    """Afterwards the loader draws what it would have drawn."""
    own = loader.generator
    state = own.get_state() if own is not None else None
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        if own is not None and state is not None:
            own.set_state(state)


def _sums(inputs: Inputs) -> list[float]:
    """By which inputs are known again: of all numbers, and of the first one's squares."""
    real = [torch.view_as_real(t) if t.is_complex() else t for t in tensors_of(inputs)]
    return [float(part) for t in real for part in (t.double().sum(), t[0].double().square().sum())]
