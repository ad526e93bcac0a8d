"""Images in blocks that are read as a whole, such as the row groups of a table."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

WINDOW = 1024  # images that are shuffled with one another, at least


def by_block(indices: Tensor, blocks: Tensor) -> list[Tensor]:
    """Places of the images in each block that has any, from the first block on.

    Parameters
    ----------
    indices : (n,), rows.
    blocks : first row of each block, in order.

    >>> by_block(torch.tensor([7, 2, 9, 0]), blocks=torch.tensor([0, 4, 8]))
    [tensor([1, 3]), tensor([0]), tensor([2])]
    """
    block = torch.searchsorted(blocks, indices, right=True)
    counts = block.bincount()
    return list(torch.split(block.argsort(stable=True), counts[counts > 0].tolist()))


def shuffled_by_block(indices: Tensor, blocks: Tensor, generator: Generator) -> Tensor:
    """A random order of the places in which few blocks are read at a time.

    Blocks follow in random order; those that `WINDOW` images take, two at least, are shuffled
    together.
    """
    places = by_block(indices, blocks)
    order: list[Tensor] = []
    window: list[Tensor] = []
    for block in torch.randperm(len(places), generator=generator, device="cpu").tolist():
        window.append(places[block])
        if len(window) > 1 and sum(map(len, window)) >= WINDOW:
            order.append(_shuffled(window, generator))
            window = []
    return torch.cat([*order, _shuffled(window, generator)])


def _shuffled(window: list[Tensor], generator: Generator) -> Tensor:
    if not window:
        return torch.empty(0, dtype=torch.int64, device="cpu")
    places = torch.cat(window)
    return places[torch.randperm(len(places), generator=generator, device="cpu")]
