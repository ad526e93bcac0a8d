"""Ctrl-C ends a flow, also where Prefect's temporary server has ended before it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from mipp.process.exit_codes import STOPPED, STOPPED_TEXT

GRACE = 10.0  # seconds in which Prefect may write down that the flow was stopped


@contextmanager
def ends_on_ctrl_c() -> Iterator[None]:
    """Here Ctrl-C raises KeyboardInterrupt, and ends the process where that does not.

    A terminal sends it to the temporary server too, for which Prefect's client then waits for
    minutes. What a stage leaves is whole or not there, whatever ends it.
    """
    told = threading.Event()

    def end() -> None:
        if not told.is_set():
            sys.stderr.write(STOPPED_TEXT)
            sys.stderr.flush()
        os._exit(STOPPED)

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        timer = threading.Timer(GRACE, end)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        told.set()  # whoever called tells of it
        signal.signal(signal.SIGINT, before)
