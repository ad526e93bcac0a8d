"""What a network achieves and what it costs: accuracy, size, multiply-accumulates, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mipp.device import device_of, dtype_of, synchronize
from mipp.errors import DataError
from mipp.evaluation import evaluating
from mipp.inputs import Inputs, Shape, call, filled, zeros
from mipp.multiplying import Multiplications
from mipp.progress import track

WARM_UPS = 3
FEWEST, ENOUGH = 5, 20.0  # timed passes that there are at least, and seconds that end the others


class Split(Protocol):
    """Labelled images; `mipp.data.ImageSplit` is one."""

    @property
    def labels(self) -> Tensor:
        """Class indices, int64, shape (n,)."""
        ...

    def __len__(self) -> int: ...

    def at(self, places: Sequence[int]) -> Split:
        """Those at some places of this one, in their order."""
        ...

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = False,
        device: torch.device | str = "cpu",
        share: Callable[[int], slice] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (b, c, h, w) with labels (b,), each image once, the last batch shorter.

        With `augment` the labels may be shares of classes instead, (b, classes). With `share` a
        batch of n has only the images share(n) of what it has without.
        """
        ...


def accuracy(model: nn.Module, split: Split, *, batch_size: int, device: torch.device) -> float:
    """Share of the images whose largest logit is at their label, 0 to 1.

    The model is left in the mode and on the device it was found.

    Raises
    ------
    DataError : the split is empty.
    """
    return accuracy_and_loss(model, split, batch_size=batch_size, device=device)[0]


def accuracy_and_loss(
    model: nn.Module, split: Split, *, batch_size: int, device: torch.device
) -> tuple[float, float]:
    """Accuracy as in `accuracy`, and the mean cross-entropy in nats.

    Raises
    ------
    DataError : the split is empty.
    """
    if len(split) == 0:
        raise DataError(
            "accuracy is undefined on an empty split.\n"
            "Expected at least 1 image, got 0; raise data.validation, or check data.root."
        )
    hits = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    with _evaluating(model, device), torch.no_grad():
        batches = split.batches(batch_size, device=device)
        for images, labels in track(batches, total=-(-len(split) // batch_size), label="evaluate"):
            logits = model(images)  # (b, c, h, w) -> (b, classes)
            hits += (logits.argmax(1) == labels).sum()
            loss += F.cross_entropy(logits, labels, reduction="sum")
    return hits.item() / len(split), loss.item() / len(split)


def count_params(model: nn.Module) -> int:
    """Number of parameters; buffers, such as batch norm statistics, are not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, shape: Shape) -> int:
    """Multiply-accumulates of one input: of all operators that multiply matrices or convolve.

    They are those of torch's own counter, which takes each for two operations, and of a few that
    it does not know. No bias, norm, activation or pooling is counted.

    Parameters
    ----------
    shape : one input without the batch axis, such as (c, h, w); a tuple of such, or a mapping,
        where forward takes several.
    """
    device = device_of(model)
    counted = Multiplications()
    with _evaluating(model, device), torch.no_grad(), counted:
        call(model, zeros(shape, device=device, dtype=dtype_of(model)))
    return counted.macs


def latencies_ms(
    models: Sequence[nn.Module],
    shape: Shape,
    *,
    batch: int,
    repeats: int,
    device: torch.device,
    warm_ups: int = WARM_UPS,
) -> list[float]:
    """Median milliseconds of a forward pass of each network over one batch, after warm-up.

    They are timed in turns, so that drift of the machine hits all of them.

    Parameters
    ----------
    shape : one input without the batch axis.
    repeats : timed passes; five are enough of those that take more than 20 seconds together.
    """
    images = filled(shape, batch, 0.5, dtype=dtype_of(models[0]), device=device)
    times: list[list[float]] = [[] for _ in models]
    with ExitStack() as found, torch.inference_mode():
        for model in models:
            found.enter_context(_evaluating(model, device))
        started = time.perf_counter()
        for turn in track(range(warm_ups + repeats), total=warm_ups + repeats, label="latency"):
            if turn >= warm_ups + FEWEST and time.perf_counter() - started > ENOUGH:
                break
            for model, seconds in zip(models, times, strict=True):
                elapsed = _time(model, images, device)
                if turn >= warm_ups:
                    seconds.append(elapsed)
    return [1000 * statistics.median(seconds) for seconds in times]


def _time(model: nn.Module, images: Inputs, device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    call(model, images)
    synchronize(device)
    return time.perf_counter() - start


@contextmanager
def _evaluating(model: nn.Module, device: torch.device) -> Iterator[None]:
    home = device_of(model)
    try:
        model.to(device)
        with evaluating(model):
            yield
    finally:
        model.to(home)
