"""One epoch: every batch of the training images, and the steps that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mipp.config import OptimConfig
from mipp.errors import TrainingError
from mipp.metrics import Split
from mipp.process.ranks import Ranks
from mipp.training.resume import State
from mipp.training.schedule import lr_at
from mipp.training.teacher import Teacher

LEAST = 2  # images of a process's part of a batch: batch norm cannot train on one


@dataclass(frozen=True)
class Work:
    """What does not change from epoch to epoch."""

    config: OptimConfig
    seed: int
    device: torch.device
    split: Split
    teacher: Teacher | None
    ranks: Ranks

    @cached_property
    def batches(self) -> int:
        """Of an epoch; a lone last image is left out, another one every time, see `LEAST`."""
        full, rest = divmod(len(self.split), self.config.batch_size)
        return full + (rest > 1 or full == 0)

    def images_of(self, batch: int) -> int:
        """Of a batch of this number, from 0 on, that all processes see between them."""
        size = self.config.batch_size
        return min(size, len(self.split) - batch * size)


@dataclass(frozen=True)
class Part:
    """Images and labels of a batch that this process sees, of `whole` that all see between them."""

    images: Tensor
    labels: Tensor
    whole: int
    ranks: Ranks

    @property
    def weight(self) -> float:
        """Times the mean over the part it is what, averaged over all, is the mean over the batch.

        >>> images = torch.zeros(3), torch.zeros(3)
        >>> Part(*images, whole=7, ranks=Ranks(1, 2)).weight  # 3 of 7 images
        0.8571428571428571
        """
        mine = len(self.labels)
        return 1.0 if mine == self.whole else mine * self.ranks.size / self.whole


def fit(state: State, work: Work, epoch: int, bar: Iterator[int]) -> tuple[float, float]:
    """Train for one epoch; the mean loss, and the share of labels that were right meanwhile.

    Raises
    ------
    TrainingError : the loss is no longer finite.
    """
    config, ranks = work.config, work.ranks
    batches = work.split.batches(
        config.batch_size,
        generator=_seed(work, epoch),
        augment=True,
        device=work.device,
        share=partial(share_of, ranks=ranks),
    )
    first, total = (epoch - 1) * work.batches, config.epochs * work.batches
    state.spread.model.train()
    state.optimizer.zero_grad()
    losses, hits, seen = [], [], 0
    # zip asks the batches first, so their end takes nothing from the bar.
    ticking = zip(islice(batches, work.batches), bar, strict=False)
    for number, ((inputs, labels), _) in enumerate(ticking):
        for group in state.optimizer.param_groups:
            group["lr"] = lr_at(config, first + number, total)
        images = inputs.to(memory_format=state.order)
        part = Part(images, labels, work.images_of(number), ranks)
        last = (number + 1) % config.accumulate == 0 or number + 1 == work.batches
        with state.spread.adding_up(last):
            loss, hit = _gradients(state, work, part, _added_up(work, number))
        if last:
            _step(state, config)
        losses.append(loss * part.whole)
        hits.append(hit)
        seen += part.whole
    # Read once an epoch: reading every batch would make a GPU wait.
    sums = ranks.mean(torch.stack(losses))
    _require_finite(sums, epoch, config)
    right = ranks.mean(torch.stack(hits).sum())
    state.spread.merge_statistics()
    return sums.sum(dtype=torch.float64).item() / seen, right.item() / seen


def share_of(images: int, ranks: Ranks) -> slice:
    """This process's images of a batch; all of it where it is too small to be shared out.

    >>> share_of(7, Ranks(0, 2)), share_of(7, Ranks(1, 2)), share_of(3, Ranks(1, 2))
    (slice(0, 4, None), slice(4, 7, None), slice(0, 3, None))
    """
    if images < LEAST * ranks.size:
        return slice(0, images)
    each, rest = divmod(images, ranks.size)
    start = ranks.rank * each + min(ranks.rank, rest)
    return slice(start, start + each + (ranks.rank < rest))


def _added_up(work: Work, batch: int) -> int:
    """Batches of an epoch whose gradients this one's is added up with, itself among them."""
    first = batch - batch % work.config.accumulate
    return min(work.config.accumulate, work.batches - first)


def _gradients(state: State, work: Work, part: Part, shared: int) -> tuple[Tensor, Tensor]:
    """Add a batch's part of the gradients up; its loss, and how many labels were right.

    Averaged over all processes both are those of the whole batch.
    """
    smoothing = work.config.label_smoothing
    with _autocast(work.config, part.images.device):
        if work.teacher is not None:
            logits, loss = work.teacher.taught(
                state.spread.model, part.images, part.labels, smoothing, state.spread.run
            )
        else:
            logits = state.spread.run(part.images)  # (b, c, h, w) -> (b, classes)
            loss = F.cross_entropy(logits, part.labels, label_smoothing=smoothing)
    if part.weight != 1:
        loss = loss * part.weight
    if state.regulariser is not None:
        loss = loss + state.regulariser.penalty(state.spread.model)
    torch.autograd.backward(state.scaler.scale(loss if shared == 1 else loss / shared))
    labels = part.labels  # of mixed images the larger share counts
    classes = labels if labels.ndim == 1 else labels.argmax(1)
    right = (logits.detach().argmax(1) == classes).sum()
    return loss.detach(), right * round(part.weight * part.whole / len(labels))


def _step(state: State, config: OptimConfig) -> None:
    model = state.spread.model
    if config.clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    if state.regulariser is not None:
        state.regulariser.after_step(model)
    if state.averaged is not None:
        state.averaged.update_parameters(model)


def _autocast(config: OptimConfig, device: torch.device) -> AbstractContextManager[object]:
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, config.precision))


def _seed(work: Work, epoch: int) -> torch.Generator:
    # Both streams start anew every epoch: a resumed run needs no random state to go on exactly.
    # Processes shuffle alike, and drop units each by a stream of its own.
    shuffle, dropout = np.random.SeedSequence((work.seed, epoch)).generate_state(2).tolist()
    if rank := work.ranks.rank:
        dropout = np.random.SeedSequence((work.seed, epoch, rank)).generate_state(1).item()
    torch.default_generator.manual_seed(dropout)
    if work.device.type == "cuda":
        with torch.cuda.device(work.device):
            torch.cuda.manual_seed(dropout)
    return torch.Generator().manual_seed(shuffle)


def _require_finite(losses: Tensor, epoch: int, config: OptimConfig) -> None:
    finite = losses.isfinite()
    if finite.all():
        return
    batch = int(finite.long().argmin()) + 1
    raise TrainingError(
        f"training diverged: epoch {epoch}, batch {batch} of {len(losses)}.\n"
        f"Expected a finite loss, got {losses[batch - 1].item()} "
        f"with lr {config.lr:g}, precision {config.precision}; "
        f"set a lower lr, such as {config.lr / 10:g}."
    )
