"""One loop for training and for fine-tuning, on one device or by several processes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mipp.axes import faster_order, order_axes
from mipp.config import OptimConfig
from mipp.errors import ConfigError, DataError
from mipp.metrics import Split, accuracy_and_loss
from mipp.process.ranks import Ranks
from mipp.progress import track
from mipp.training.epoch import Work, fit
from mipp.training.history import EpochRecord, best_epoch, has_stalled
from mipp.training.optimizers import build_optimizer, optimizer_of
from mipp.training.regulariser import Regulariser
from mipp.training.resume import Checkpoint, State, facts, fingerprint
from mipp.training.strategy import Strategy, require_undivided, spread
from mipp.training.teacher import Teacher


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
    strategy: Strategy = "auto",
) -> tuple[EpochRecord, ...]:
    """The epochs' records; the model is trained in place and left on `device`, in eval mode.

    On the CPU the same arguments give the same weights bit for bit, whether or not the run was
    killed in between and started again. The caller's random state is untouched. Training that is
    broken off leaves the weights of its last step, in eval mode, too.

    Called by each process of several that have joined (`mipp.process.ranks.joined`), they train one
    network: each takes its part of every batch, so that `batch_size` is that of all together and
    the losses are those of one process up to rounding (of dropout and, on CPUs, of batch norms
    that see parts of a batch, further). Rank 0 alone writes the checkpoint.

    Parameters
    ----------
    validation_split : may be empty, if `config.patience` is 0.
    config : zero epochs do nothing. With `patience`, the weights of the best epoch are kept; with
        `ema` a moving average of the weights is validated and kept in place of them.
    checkpoint : file from which a killed run goes on; written after the first epoch and then as
        often as it is worth, ignored if other arguments wrote it, removed at the end.
    on_epoch : called with each epoch that this run computed, once a checkpoint due is written.
    teacher : whose answers count beside the labels, if given.
    regulariser : what is added to the loss and follows every step, if given.
    strategy : of several processes: whether each holds all weights (`ddp`) or a part (`fsdp`).

    Raises
    ------
    ConfigError : `precision`, `patience` or the optimizer cannot be had with this device or
        validation split; processes disagree about what they train.
    DataError : the training split is empty.
    CheckpointError : the checkpoint is damaged.
    TrainingError : the loss is no longer finite.
    """
    if config.epochs == 0:
        return ()
    require_trainable(config, train_split, validation_split, device)
    ranks = Ranks.here()
    others = _others(train_split, validation_split, teacher)
    made_from = facts(model, config, seed, device, others, regulariser)
    ranks.require_agreement(made_from | _software())
    work = Work(config, seed, device, train_split, teacher, ranks)
    try:
        with _random_state_kept(device):
            state = _begin(model, work, strategy, regulariser)
            sharded = {"sharded": str(state.spread.is_sharded)}
            file = Checkpoint(checkpoint, fingerprint(made_from | sharded))
            file.restore(state)
            ranks.require_agreement({"the epochs that are done": len(state.history)})
            for record in _epochs(state, work, validation_split):
                file.save_if_due(state)
                if on_epoch is not None:
                    on_epoch(record)
        model.load_state_dict(state.result() if state.best is None else state.best)
    finally:
        order_axes(model, torch.contiguous_format)
        model.zero_grad()
        model.eval()
    file.remove(ranks)
    return tuple(state.history)


def require_trainable(
    config: OptimConfig, train_split: Split, validation_split: Split, device: torch.device
) -> None:
    """Refuse what `train` cannot do with these splits on this device.

    Raises
    ------
    ConfigError : `precision`, `patience` or the optimizer cannot be had with this device or
        validation split.
    DataError : the training split is empty.
    """
    optimizer_of(config)
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


def _others(
    train_split: Split, validation_split: Split, teacher: Teacher | None
) -> dict[str, Tensor]:
    labels = {"train": train_split.labels, "validation": validation_split.labels}
    return {**labels, **(teacher.tensors() if teacher is not None else {})}


def _software() -> dict[str, str]:
    return {"the version of Python": platform.python_version(), "that of torch": torch.__version__}


def _begin(
    model: nn.Module, work: Work, strategy: Strategy, regulariser: Regulariser | None
) -> State:
    config = work.config
    model.to(work.device)

    def example() -> Tensor:
        return next(iter(work.split.at([0, 1]).batches(2, device=work.device)))[0]

    order = _order(model, config, example)
    order_axes(model, order)
    made = spread(model, strategy, work.ranks, example)
    if made.is_sharded:
        require_undivided(config, regularised=regulariser is not None)
    if config.compile:
        made.compile()
    averaged = None
    if config.ema is not None:
        mean = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
        averaged = AveragedModel(made.model, multi_avg_fn=mean, use_buffers=True)
    scaler = torch.amp.GradScaler(work.device.type, enabled=config.precision == "float16")
    optimizer = build_optimizer(made.model, config)
    return State(made, order, optimizer, scaler, averaged, regulariser)


def _order(
    model: nn.Module, config: OptimConfig, example: Callable[[], Tensor]
) -> torch.memory_format:
    if config.channels_last == "auto":
        return faster_order(model, example)
    return torch.channels_last if config.channels_last else torch.contiguous_format


def _epochs(state: State, work: Work, validation_split: Split) -> Iterator[EpochRecord]:
    config, history = work.config, state.history
    left = (config.epochs - len(history)) * work.batches
    with closing(track(range(left), total=left, label="train")) as bar:
        while len(history) < config.epochs and not has_stalled(history, config.patience):
            record = _epoch(state, work, validation_split, bar)
            history.append(record)
            if config.patience and best_epoch(history) == record.epoch:
                state.best = {name: tensor.clone() for name, tensor in state.result().items()}
            yield record


def _epoch(state: State, work: Work, validation_split: Split, bar: Iterator[int]) -> EpochRecord:
    epoch = len(state.history) + 1
    loss, accuracy = fit(state, work, epoch, bar)
    right, apart = _validated(state, work, validation_split)
    return EpochRecord(
        epoch=epoch,
        lr=state.optimizer.param_groups[0]["lr"],
        train_loss=loss,
        train_accuracy=accuracy,
        validation_loss=apart,
        validation_accuracy=right,
    )


def _validated(state: State, work: Work, split: Split) -> tuple[float | None, float | None]:
    """Accuracy and loss of the network that is left, the same on every process."""
    ranks, images = work.ranks, len(split)
    if images == 0:
        return None, None
    shared = not state.spread.is_sharded and images >= ranks.size  # no pass waits for the others'
    part = split.at(range(ranks.rank, images, ranks.size)) if shared and ranks.size > 1 else split
    found = accuracy_and_loss(
        state.judged, part, batch_size=work.config.batch_size, device=work.device
    )
    if part is split:
        accuracy, loss = ranks.told(found)
    else:
        sums = torch.tensor(found, dtype=torch.float64, device=work.device) * len(part)
        accuracy, loss = (ranks.mean(sums) * ranks.size / images).tolist()
    return accuracy, loss


def _random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    gpu = device.type == "cuda"
    return torch.random.fork_rng(
        [torch.cuda.current_device() if device.index is None else device.index] if gpu else []
    )
