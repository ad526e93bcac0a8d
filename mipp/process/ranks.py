"""The processes of one training on several devices, this one among them.

They are torch's: gloo between CPUs, NCCL between GPUs, and whoever starts them (`mipp run` by
itself, `torchrun`) has told each its rank.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store

from mipp.errors import ConfigError

HOST = "127.0.0.1"
PATIENCE = timedelta(days=7)  # of processes that wait for one which does a stage of its own


@dataclass(frozen=True)
class Ranks:
    """Which process of a training this is, 0 <= rank < size; alone without others.

    Every method is called by all of them, in the same order.

    Example
    -------
    >>> Ranks().mean(torch.tensor([1.0, 2.0])).tolist(), Ranks().told("by rank 0")
    ([1.0, 2.0], 'by rank 0')
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Those that this process has joined."""
        joined = dist.is_available() and dist.is_initialized()
        return cls(dist.get_rank(), dist.get_world_size()) if joined else cls()

    @property
    def here_beside(self) -> int:
        """How many of them share this machine, this one among them."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size)) if self.size > 1 else 1

    def mean(self, values: Tensor) -> Tensor:
        """Mean of all processes' values, of one shape, on each of them."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def wait(self) -> None:
        """Until all of them are here."""
        if self.size > 1:
            dist.barrier()

    def told(self, value: Any) -> Any:
        """What rank 0 says."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box)
        return box[0]

    def require_agreement(self, facts: Mapping[str, object]) -> None:
        """Refuse processes that were not given the same.

        Parameters
        ----------
        facts : by what they are about, such as `the data`.

        Raises
        ------
        ConfigError : on each of them: says what, which rank, and what rank 0 has.
        """
        everyone: list[Any] = [facts] * self.size
        if self.size > 1:
            dist.all_gather_object(everyone, facts)
        for what, first in everyone[0].items():
            for rank, told in enumerate(everyone):
                if told[what] != first:
                    raise ConfigError(
                        f"the processes of a training disagree about {what}.\nExpected what rank 0 "
                        f"has, {first}, on all {self.size}, got {told[what]} on rank {rank}; start "
                        "all of them by the same command, over the same files and packages."
                    )


def is_launched() -> bool:
    """Whether somebody, such as `torchrun`, started this process as one of several.

    Example
    -------
    >>> is_launched()
    False
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def loopback() -> dict[str, str]:
    """Setting of the environment by which gloo stays on this machine, {} where none is known.

    By itself it takes the address of the machine's name, which firewalls close and laptops change.
    """
    names = {name for _, name in socket.if_nameindex()}
    known = [name for name in ("lo", "lo0") if name in names]  # of Linux, of macOS and BSD
    return {"GLOO_SOCKET_IFNAME": known[0]} if known else {}


def meeting_place(port: int = 0, host: str = HOST) -> Store:
    """Where processes meet: a new one, or that of whoever has made it at a port.

    Parameters
    ----------
    host : address of the machine that makes it, as the others reach it.
    """
    store: Store = dist.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=port == 0, wait_for_workers=False
    )
    return store


@contextmanager
def joined(store: Store | None = None) -> Iterator[Ranks]:
    """Within the block this process is one of a training's; the environment says which.

    Parameters
    ----------
    store : where they meet; the one that MASTER_ADDR and MASTER_PORT name, if not given.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    gpus = torch.cuda.is_available()
    if gpus:  # "cuda" is this process's own from now on
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield Ranks.here()
    finally:
        dist.destroy_process_group()
