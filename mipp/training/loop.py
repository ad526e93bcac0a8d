"""One loop for training and for fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mipp.config import OptimConfig
from mipp.errors import ConfigError, DataError, TrainingError
from mipp.metrics import Split, accuracy_and_loss
from mipp.progress import track
from mipp.training.history import EpochRecord, best_epoch, has_stalled
from mipp.training.regulariser import Regulariser
from mipp.training.resume import Checkpoint, State, fingerprint
from mipp.training.schedule import build_optimizer, lr_at
from mipp.training.teacher import Teacher


@dataclass(frozen=True)
class _Plan:
    config: OptimConfig
    seed: int
    device: torch.device
    batches: int  # per epoch
    teacher: Teacher | None


def train(
    model: nn.Module,
    train_split: Split,
    validation_split: Split,
    config: OptimConfig,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    teacher: Teacher | None = None,
    regulariser: Regulariser | None = None,
) -> tuple[EpochRecord, ...]:
    """The epochs' records; the model is trained in place and left on `device`, in eval mode.

    On the CPU the same arguments give the same weights bit for bit, whether or not the run was
    killed in between and started again. The caller's random state is untouched.

    Parameters
    ----------
    validation_split : may be empty, if `config.patience` is 0.
    config : zero epochs do nothing. With `patience`, the weights of the best epoch are kept.
    checkpoint : file from which a killed run goes on; written after the first epoch and then as
        often as it is worth, ignored if other arguments wrote it, removed at the end.
    on_epoch : called with each epoch that this run computed, once a checkpoint due is written.
    teacher : whose answers count beside the labels, if given.
    regulariser : what is added to the loss and follows every step, if given.

    Raises
    ------
    ConfigError : `precision` or `patience` cannot be had with this device or validation split.
    DataError : the training split is empty.
    CheckpointError : the checkpoint is damaged.
    TrainingError : the loss is no longer finite.
    """
    if config.epochs == 0:
        return ()
    require_trainable(config, train_split, validation_split, device)
    labels = {"train": train_split.labels, "validation": validation_split.labels}
    others = {**labels, **(teacher.tensors() if teacher is not None else {})}
    digest = fingerprint(model, config, seed, device, others, regulariser)
    file = Checkpoint(checkpoint, digest)
    state = _begin(model, config, device, regulariser)
    file.restore(state)
    batches = _count_batches(len(train_split), config.batch_size)
    plan = _Plan(config, seed, device, batches, teacher)
    with _random_state_kept(device):
        for record in _epochs(state, plan, train_split, validation_split):
            file.save_if_due(state)
            if on_epoch is not None:
                on_epoch(record)
    if state.best is not None:
        model.load_state_dict(state.best)
    _order_axes(model, torch.contiguous_format)
    model.eval()
    file.remove()
    return tuple(state.history)


def require_trainable(
    config: OptimConfig, train_split: Split, validation_split: Split, device: torch.device
) -> None:
    """Refuse what `train` cannot do with these splits on this device.

    Raises
    ------
    ConfigError : `precision` or `patience` cannot be had with this device or validation split.
    DataError : the training split is empty.
    """
    if len(train_split) == 0:
        raise DataError(
            "the training split is empty.\n"
            "Expected at least 1 image, got 0; lower data.validation, or check data.root."
        )
    if config.patience and len(validation_split) == 0:
        raise ConfigError(
            f"patience {config.patience} needs a validation split.\n"
            "Expected at least 1 validation image, got 0; raise data.validation above 0, "
            "or set patience to 0."
        )
    if config.precision == "float16" and device.type == "cpu":
        raise ConfigError(
            "precision float16 cannot be had on the CPU.\n"
            "Expected float32 or bfloat16 with compute.device cpu, got float16; "
            "set precision to bfloat16, or train on a GPU."
        )


def _begin(
    model: nn.Module, config: OptimConfig, device: torch.device, regulariser: Regulariser | None
) -> State:
    model.to(device)
    _order_axes(model, _format(config))
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    return State(model, build_optimizer(model, config), scaler, regulariser)


def _format(config: OptimConfig) -> torch.memory_format:
    return torch.channels_last if config.channels_last else torch.contiguous_format


def _order_axes(model: nn.Module, order: torch.memory_format) -> None:
    """Weights of convolutions in this order, in place."""
    model.to(memory_format=order)  # type: ignore[call-overload]  # torch's types leave it out


def _count_batches(images: int, batch_size: int) -> int:
    # A lone last image is left out (another one every epoch): batch norm cannot train on one.
    full, rest = divmod(images, batch_size)
    return full + (rest > 1 or full == 0)


def _epochs(
    state: State, plan: _Plan, train_split: Split, validation_split: Split
) -> Iterator[EpochRecord]:
    config, history = plan.config, state.history
    left = (config.epochs - len(history)) * plan.batches
    with closing(track(range(left), total=left, label="train")) as bar:
        while len(history) < config.epochs and not has_stalled(history, config.patience):
            record = _epoch(state, plan, train_split, validation_split, bar)
            history.append(record)
            if config.patience and best_epoch(history) == record.epoch:
                weights = state.model.state_dict()
                state.best = {name: tensor.clone() for name, tensor in weights.items()}
            yield record


def _epoch(
    state: State, plan: _Plan, train_split: Split, validation_split: Split, bar: Iterator[int]
) -> EpochRecord:
    epoch = len(state.history) + 1
    loss, accuracy = _fit(state, plan, train_split, bar)
    validation: tuple[float | None, float | None] = None, None
    if len(validation_split):
        validation = accuracy_and_loss(
            state.model, validation_split, batch_size=plan.config.batch_size, device=plan.device
        )
    return EpochRecord(
        epoch=epoch,
        lr=state.optimizer.param_groups[0]["lr"],
        train_loss=loss,
        train_accuracy=accuracy,
        validation_loss=validation[1],
        validation_accuracy=validation[0],
    )


def _fit(state: State, plan: _Plan, train_split: Split, bar: Iterator[int]) -> tuple[float, float]:
    config, epoch = plan.config, len(state.history) + 1
    batches = train_split.batches(
        config.batch_size, generator=_seed(plan, epoch), augment=True, device=plan.device
    )
    first, total = (epoch - 1) * plan.batches, config.epochs * plan.batches
    state.model.train()
    state.optimizer.zero_grad()
    losses, hits, images = [], [], 0
    # zip asks the batches first, so their end takes nothing from the bar.
    ticking = zip(islice(batches, plan.batches), bar, strict=False)
    for step, ((inputs, labels), _) in enumerate(ticking, first):
        for group in state.optimizer.param_groups:
            group["lr"] = lr_at(config, step, total)
        inputs = inputs.to(memory_format=_format(config))
        loss, hit = _gradients(state, plan, inputs, labels, _added_up(plan, step - first))
        if (step - first + 1) % config.accumulate == 0 or step - first + 1 == plan.batches:
            _step(state, config)
        losses.append(loss * len(labels))
        hits.append(hit)
        images += len(labels)
    # Read once an epoch: reading every batch would make a GPU wait.
    sums = torch.stack(losses)
    _require_finite(sums, epoch, config)
    return sums.sum(dtype=torch.float64).item() / images, torch.stack(hits).sum().item() / images


def _added_up(plan: _Plan, batch: int) -> int:
    """Batches of an epoch whose gradients this one's is added up with, itself among them."""
    first = batch - batch % plan.config.accumulate
    return min(plan.config.accumulate, plan.batches - first)


def _gradients(
    state: State, plan: _Plan, inputs: Tensor, labels: Tensor, shared: int
) -> tuple[Tensor, Tensor]:
    """Add a batch's part of the gradients up; its loss, and how many labels were right."""
    smoothing = plan.config.label_smoothing
    with _autocast(plan.config, inputs.device):
        if plan.teacher is not None:
            logits, loss = plan.teacher.taught(state.model, inputs, labels, smoothing)
        else:
            logits = state.model(inputs)  # (b, c, h, w) -> (b, classes)
            loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if state.regulariser is not None:
        loss = loss + state.regulariser.penalty(state.model)
    torch.autograd.backward(state.scaler.scale(loss if shared == 1 else loss / shared))
    classes = labels if labels.ndim == 1 else labels.argmax(1)  # of mixed images the larger share
    return loss.detach(), (logits.detach().argmax(1) == classes).sum()


def _step(state: State, config: OptimConfig) -> None:
    if config.clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    if state.regulariser is not None:
        state.regulariser.after_step(state.model)


def _autocast(config: OptimConfig, device: torch.device) -> AbstractContextManager[object]:
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, config.precision))


def _seed(plan: _Plan, epoch: int) -> torch.Generator:
    # Both streams start anew every epoch: a resumed run needs no random state to go on exactly.
    shuffle, dropout = np.random.SeedSequence((plan.seed, epoch)).generate_state(2).tolist()
    torch.default_generator.manual_seed(dropout)
    if plan.device.type == "cuda":
        with torch.cuda.device(plan.device):
            torch.cuda.manual_seed(dropout)
    return torch.Generator().manual_seed(shuffle)


def _random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    gpu = device.type == "cuda"
    return torch.random.fork_rng(
        [torch.cuda.current_device() if device.index is None else device.index] if gpu else []
    )


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
