"""Which way of having a network between them several processes train it by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from mipp.config import OptimConfig
from mipp.device import device_of, free_bytes
from mipp.errors import ConfigError
from mipp.process.ranks import Ranks
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


def require_undivided(config: OptimConfig, *, regularised: bool) -> None:
    """Refuse, of weights that are divided among processes, what reads or copies them whole.

    Parameters
    ----------
    regularised : whether a `Regulariser` follows the training.

    Raises
    ------
    ConfigError : `ema`, `precision=float16`, or a regulariser.
    """
    wanted = {
        "ema": config.ema is not None,
        "precision=float16": config.precision == "float16",
        "a regulariser": regularised,
    }
    for what, asked in wanted.items():
        if asked:
            raise ConfigError(
                f"{what} cannot be had where no process holds all weights (strategy fsdp).\n"
                f"Expected a training without, got {what}; leave it out, or set "
                "compute.strategy=ddp."
            )


def _is_large(model: nn.Module) -> bool:
    size = COPIES * sum(parameter.nbytes for parameter in model.parameters())
    free = free_bytes(device_of(model))
    return free is not None and size > free / 2
