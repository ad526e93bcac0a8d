"""What a stage body works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mipp.config import Params
from mipp.disk.storage import Workdir
from mipp.training.history import EpochRecord

OnEpoch = Callable[[str, EpochRecord], None]


@dataclass(frozen=True)
class Context:
    """What a stage body works with. `out` becomes `<workdir>/<stage>` when the body returns.

    `key` is the fingerprint of all that the stage's outputs depend on.
    """

    workdir: Workdir
    out: Path
    params: Params
    key: str
    on_epoch: OnEpoch | None = None
