"""Processes that compute points side by side, and end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import torch

from mipp.device import threads_each
from mipp.process.allocator import keep_freed_memory


def start_workers(count: int) -> ProcessPoolExecutor:
    """A pool whose workers share torch's threads between them.

    Processes, not threads: drawing a network's first weights sets torch's one global generator.
    """
    return ProcessPoolExecutor(
        count,
        multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(threads_each(count),),
    )


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, with which they end
    torch.set_num_threads(threads)
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
