"""Which way of having a network between them several processes train it by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from mipp.device import device_of, free_bytes
from mipp.ranks import Ranks
from mipp.training.spread import Replicas, Spread

Strategy = Literal["auto", "ddp", "fsdp"]
COPIES = 4  # weights, gradients, and two moments of an optimizer


def spread(
    model: nn.Module, strategy: Strategy, ranks: Ranks, example: Callable[[], Tensor]
) -> Spread:
    """The network as so many processes train it: itself where there is one, else a copy.

    Parameters
    ----------
    strategy : `ddp`, `fsdp`, or `auto`: the latter where a device would be more than half full of
        weights and what training adds to them.
    example : gives images, as `Replicas` takes them.
    """
    if ranks.size == 1:
        return Spread(model, ranks)
    if strategy == "fsdp" or (strategy == "auto" and ranks.told(_is_large(model))):
        from mipp.training.sharded import Shards  # imports for most of a second

        return Shards(model, ranks)
    return Replicas(model, ranks, example())


def _is_large(model: nn.Module) -> bool:
    size = COPIES * sum(parameter.nbytes for parameter in model.parameters())
    free = free_bytes(device_of(model))
    return free is not None and size > free / 2
