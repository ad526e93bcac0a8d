"""What became of one channel, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Why = Literal["informative", "redundant", "floor", "spare", "limit", "rounded"]


@dataclass(frozen=True)
class Verdict:
    """What became of one channel: visited at `visit`, adding `conditional` nats to the rest."""

    channel: int
    visit: int
    single: float
    conditional: float
    worth: float  # of these nats, see `Threshold`
    why: Why
    confidence: float | None = None  # %, that it adds information; None under a threshold

    @property
    def kept(self) -> bool:
        return self.why != "redundant"
