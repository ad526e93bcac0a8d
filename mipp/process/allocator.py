"""The C library's allocator, told to keep what a step of training frees for the next one."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

BLOCK = 32 * 2**20  # bytes, the most that glibc takes: larger blocks still go back at once
KEPT = 512 * 2**20  # bytes of the heap's free end that are kept at most
GROWN = 128 * 2**20  # bytes by which a process grows before freed memory is given back
STATM = Path("/proc/self/statm")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h
DECIDED = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",  # of another allocator
)


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for this process, instead of giving it back; whether it does.

    For whoever owns the process: a command, a flow, a worker. No function of the library calls it.

    The tensors of a step are freed and asked for again in the next. What was given back in
    between, the kernel hands out page by page and fills with zeros first: an eighth to a sixth of
    the time of training ResNet-20 on a CPU (`python -m benchmarks.cost.allocator`). Other C
    libraries, and what the environment says about the allocator, are left alone.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is None or any(name in os.environ for name in DECIDED):
        return False
    return bool(change(MMAP_THRESHOLD, BLOCK)) and bool(change(TRIM_THRESHOLD, KEPT))


class FreedMemory:
    """What threads have freed, given back to the system each time that the process has grown.

    A thread of glibc's has a heap of its own, and what is freed there no other thread can use.
    Other C libraries, and systems that do not say how large a process is, are left alone.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._held = _resident()

    def give_back(self) -> None:
        """Called after a thread's work; mostly does nothing."""
        if self._trim is not None and _resident() > self._held + GROWN:
            self._trim(0)
            self._held = _resident()


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
