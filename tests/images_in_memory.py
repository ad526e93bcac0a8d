"""Labelled images in memory, as training and metrics take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class InMemory:
    """Augmentation adds noise; `orders` holds the order of every pass."""

    images: Tensor
    labels: Tensor
    orders: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, places: Sequence[int]) -> InMemory:
        rows = list(places)
        return InMemory(self.images[rows], self.labels[rows])

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = False,
        device: torch.device | str = "cpu",
        share: Callable[[int], slice] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self))
        if generator is not None:
            order = torch.randperm(len(self), generator=generator)
        self.orders.append(order.tolist())
        for start in range(0, len(self), batch_size):
            rows = order[start : start + batch_size]
            images = self.images[rows]
            if augment:
                images = images + 0.1 * torch.randn(images.shape, generator=generator)
            own = slice(None) if share is None else share(len(rows))
            yield images[own].to(device), self.labels[rows][own].to(device)


def brighter_corners(
    count: int, side: int, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> InMemory:
    """Three classes, each a brighter spot on the diagonal of a noisy 1 x side x side image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randn(count, 1, side, side, generator=generator, dtype=dtype)
    images[torch.arange(count), 0, labels, labels] += 2.0
    return InMemory(images, labels)
