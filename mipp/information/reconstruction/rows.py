"""Rows of one pair as perceptrons are trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mipp.errors import EstimationError, option
from mipp.information.null_column import null_column
from mipp.information.reconstruction.perceptron import Loss
from mipp.information.reconstruction.settings import ReconstructionSettings


@dataclass(frozen=True)
class PairRows:
    """Rows of one pair as the perceptrons see them: standardised, the null column last."""

    name: str
    channels: int
    block: int
    x: Tensor  # (n, (channels + 1) * block)
    y: Tensor  # (n, m) float, or (n,) classes
    train: Tensor  # (repeats, k) row indices
    held_out: Tensor  # (repeats, h)

    @property
    def loss(self) -> Loss:
        return "squared error" if self.y.is_floating_point() else "cross entropy"

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1


def pair_rows(x: Tensor, y: Tensor, settings: ReconstructionSettings, name: str) -> PairRows:
    """Standardise rows, append the null column, and draw every repeat's own rows.

    Parameters
    ----------
    x : (n, channels, block).
    y : (n, m) continuous targets, or (n,) classes as int64.
    name : of the pair, for error texts.

    Raises
    ------
    EstimationError : too few rows, or a discrete target with a single class.
    """
    n, channels, block = x.shape
    need = 10 * settings.repeats
    if n < need:
        raise EstimationError(
            f"pair {name!r}: {n} rows are too few for {settings.repeats} repeats.\nExpected at "
            f"least {need}, got {n}; raise {option('Mipp.rows or images')}."
        )
    if not y.is_floating_point() and int(y.max()) == int(y.min()):
        raise EstimationError(
            f"pair {name!r}: the discrete target has one class only, so nothing can be told "
            f"about it.\nExpected at least 2 classes in {n} rows, got class {int(y[0])} alone; "
            "check the labels, and that the calibration rows are a random sample."
        )
    generator = torch.Generator().manual_seed(settings.seed)
    null = null_column(x, generator)
    x = _standardised(torch.cat([x.flatten(1), null.flatten(1)], 1).float())
    y = _standardised(y.float()) if y.is_floating_point() else y
    held_out = min(settings.held_out, n // 6)
    drawn = torch.rand(settings.repeats, n, generator=generator, device="cpu")
    order = drawn.argsort(1).to(x.device)
    train = order[:, held_out : held_out + settings.rows]
    return PairRows(name, channels, block, x, y, train, order[:, :held_out])


def _standardised(values: Tensor) -> Tensor:
    """Columns with mean 0 and variance 1; a constant column becomes 0."""
    deviation = values.std(0, correction=0)
    return (values - values.mean(0)) / deviation.masked_fill(deviation <= 1e-12, torch.inf)
