"""A bound on the time that some code may take of a core, however busy the machine is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside of it once the process has worked for so long; main thread only.

    >>> with at_most(0.05):
    ...     while True:
    ...         pass
    Traceback (most recent call last):
    TimeoutError: not done in 0.05 s of one core
    """

    def end(*_: Any) -> None:
        raise TimeoutError(f"not done in {seconds:g} s of one core")

    former = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)
