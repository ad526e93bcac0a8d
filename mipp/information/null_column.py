"""A column known to tell nothing: what a channel's apparent information is compared with."""

from __future__ import annotations

import torch
from torch import Tensor


def null_column(x: Tensor, generator: torch.Generator) -> Tensor:
    """Features of one more channel that is independent of everything, (n, 1, block).

    Every row holds the block of a random channel in a random row: it is distributed like the
    channels taken together, so that it overfits as much as they do.

    Parameters
    ----------
    x : (n, channels, block).

    Source: the null model of the authors' TERC code (arXiv:2401.11512).
    """
    n, channels, _ = x.shape
    rows = torch.randperm(n, generator=generator, device="cpu").to(x.device)
    which = torch.randint(channels, (n,), generator=generator, device="cpu").to(x.device)
    return x[rows, which][:, None]
