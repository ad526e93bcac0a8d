"""A function run by two processes that have joined, and what came of it on each.

They are forked from a server that has imported torch once.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from mipp.errors import MippError
from mipp.process.ranks import joined, loopback, meeting_place

SIZE = 2
SECONDS = 120  # after which two that wait for each other are given up


def by_two(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function of a module returns on rank 0 and 1, or the error of mipp that it raises."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mipp.training.sharded", "mipp.training.loop"])
    store = meeting_place()
    with ProcessPoolExecutor(SIZE, context) as pool:
        futures = [
            pool.submit(_on_rank, rank, store.port, function, arguments) for rank in range(SIZE)
        ]
        return [future.result(timeout=SECONDS) for future in futures]


def _on_rank(rank: int, port: int, function: Callable[..., Any], arguments: Any) -> Any:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(SIZE), **loopback()}
    with joined(meeting_place(port)):
        try:
            return function(*arguments)
        except MippError as error:
            return error
