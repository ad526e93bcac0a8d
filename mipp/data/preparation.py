"""What a model is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mipp.data.frame import Frame, Interpolation


@dataclass(frozen=True)
class Preparation:
    """What a model is given: its shape (channels, size, size) and the normalisation."""

    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None  # as `mipp.data.frame.Frame` has it, and so is what follows
    interpolation: Interpolation | None = None

    @property
    def frame(self) -> Frame:
        """How images come to the square."""
        return Frame.of(self.size, self.resize, self.interpolation)

    def cropping(self, seeds: Sequence[int]) -> Frame:
        """The same with a random crop of each of as many images."""
        return Frame.of(self.size, self.resize, self.interpolation, seeds)
