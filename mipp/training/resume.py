"""What a killed training needs to go on as if nothing had happened."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mipp.config import OptimConfig
from mipp.disk.whole_files import written_whole
from mipp.errors import CheckpointError, reason_of
from mipp.process.ranks import Ranks
from mipp.training.history import EpochRecord
from mipp.training.regulariser import Regulariser
from mipp.training.spread import Spread

# Seconds of work that a second of saving must protect: saving takes at most 5 % of the time.
WORK_PER_SAVE = 20.0


@dataclass
class State:
    """All that changes from epoch to epoch; randomness is a function of seed and epoch."""

    spread: Spread
    order: torch.memory_format  # of the axes of images and filters
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averaged: AveragedModel | None = None  # the mean of the weights of late, with ema only
    regulariser: Regulariser | None = None
    history: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Tensor] | None = None  # weights of the best epoch, with patience only

    @property
    def judged(self) -> nn.Module:
        """The network that is validated, and left in the end."""
        return self.spread.model if self.averaged is None else self.averaged.module

    def result(self) -> dict[str, Tensor]:
        """Its weights."""
        return self.spread.weights() if self.averaged is None else self.judged.state_dict()


class Checkpoint:
    """A file that follows a training, replaced in one step; without a path it does nothing."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.saved_at = time.monotonic()
        self.cost = 0.0  # seconds of the last save; 0 makes the first epoch due

    def restore(self, state: State) -> None:
        """Take up what an earlier run with the same arguments left; another's is ignored.

        Raises
        ------
        CheckpointError : the file is no checkpoint.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            if saved["fingerprint"] == self.fingerprint:
                _take_up(state, saved)
        except Exception as error:  # torch raises many kinds for a damaged or foreign file
            raise CheckpointError(
                f"training checkpoint {self.path} cannot be read: {reason_of(error)}.\nExpected a "
                "file that an interrupted training left, got a damaged or foreign one; delete it "
                "to start the training again."
            ) from error

    def save_if_due(self, state: State) -> None:
        """Save, unless so little work is at stake that doing it again is cheaper."""
        start, ranks = time.monotonic(), state.spread.ranks
        early = start - self.saved_at < WORK_PER_SAVE * self.cost
        if self.path is None or ranks.told(early):
            return
        content = {
            "fingerprint": self.fingerprint,
            "model": state.spread.weights(),
            "optimizer": state.spread.state_of(state.optimizer),
            "scaler": state.scaler.state_dict(),
            "averaged": state.averaged and state.averaged.state_dict(),
            "regulariser": state.regulariser and state.regulariser.state_dict(),
            "history": [asdict(record) for record in state.history],
            "best": state.best,
        }
        if ranks.rank == 0:
            # by a path torch would not tell why it fails
            with written_whole(self.path) as partial, partial.open("wb") as file:
                torch.save(content, file)
        self.saved_at = time.monotonic()
        self.cost = self.saved_at - start

    def remove(self, ranks: Ranks) -> None:
        """Delete the file, if there is one."""
        if self.path is not None and ranks.rank == 0:
            self.path.unlink(missing_ok=True)


def facts(
    model: nn.Module,
    config: OptimConfig,
    seed: int,
    device: torch.device,
    others: Mapping[str, Tensor],
    regulariser: Regulariser | None = None,
) -> dict[str, str]:
    """A training's arguments, each as text or a digest, by what they are about.

    Parameters
    ----------
    others : labels, which stand for the images that would take too long to read, and a teacher.
    """
    rule = regulariser and regulariser.state_dict()
    return {
        "the parameters": f"{config.model_dump_json()} {seed} {device.type} {rule}",
        "the weights": _digest(model.state_dict()),
        "the data": _digest(others),
    }


def fingerprint(made_from: Mapping[str, str]) -> str:
    """Digest of what `facts` said, and of whatever else a training goes on with."""
    return hashlib.sha256(repr(sorted(made_from.items())).encode()).hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _take_up(state: State, saved: Mapping[str, Any]) -> None:
    state.spread.load(saved["model"])
    state.spread.load_state(state.optimizer, saved["optimizer"])
    if state.averaged is not None:
        state.averaged.load_state_dict(saved["averaged"])
    state.scaler.load_state_dict(saved["scaler"])
    if state.regulariser is not None:
        state.regulariser.load_state_dict(saved["regulariser"])
    state.history = [EpochRecord(**record) for record in saved["history"]]
    state.best = saved["best"]
