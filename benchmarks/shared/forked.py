"""Measurements in processes of their own, which start with everything imported."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Parts = Iterable[Mapping[str, Any]]


def measured(
    parts: Callable[..., Parts], *given: Any, timeout: float, preload: Iterable[str]
) -> dict[str, Any]:
    """What a generator yields in a fresh process; whatever it had where it was cut short.

    Parameters
    ----------
    parts : a module's function.
    timeout : seconds after which the process is ended; `failed` says so then.
    preload : modules that are imported once for all processes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    theirs, ours = context.Pipe()
    process = context.Process(target=_run, args=(theirs, parts, given), daemon=True)
    started = time.monotonic()
    process.start()
    theirs.close()
    row: dict[str, Any] = {}
    try:
        while ours.poll(max(0.0, started + timeout - time.monotonic())):
            row |= ours.recv()
        row["failed"] = f"not done in {timeout:g} s"
    except EOFError:  # it has ended
        process.join()
        if process.exitcode:
            row["failed"] = f"ended with exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return row


def _run(pipe: Any, parts: Callable[..., Parts], given: tuple[Any, ...]) -> None:
    try:
        for part in parts(*given):
            pipe.send(dict(part))
    except Exception as error:
        traceback.print_exc()
        pipe.send({"failed": f"{type(error).__name__}: {error}"[:300]})
