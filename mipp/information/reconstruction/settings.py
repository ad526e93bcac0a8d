"""How perceptrons are built and trained, and where their randomness begins."""

from __future__ import annotations

from dataclasses import dataclass

from mipp.settings import Reconstruction


@dataclass(frozen=True)
class ReconstructionSettings(Reconstruction):
    """What can be set, with the seed of rows, of first weights and of the null column."""

    seed: int = 0
