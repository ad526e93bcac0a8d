"""How perceptrons are built and trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReconstructionSettings:
    """How the perceptrons are built and trained; the paper's values where it gives them."""

    repeats: int = 5  # paper: five estimates of every information
    rows: int = 5120  # that each repeat trains on; paper: 20 batches of 256
    held_out: int = 1024
    width: int = 128
    depth: int = 1  # hidden layers
    epochs: int = 100  # at most; paper: up to 100 with early stopping
    patience: int = 5
    lr: float = 3e-3
    retrain_epochs: int = 5
    retrain_lr: float = 1e-3
    batch_size: int = 256
    resolution: float = 0.3  # noise floor, as a share of a target's variance
    seed: int = 0
    side_by_side: int = 1  # candidates trained at once; never changes what is decided
