"""Progress: a bar on a terminal, a line now and then anywhere else.

It counts as messages of level INFO of the logger `mipp`: nothing is shown where that logger was set
to a higher one, as `logging.getLogger("mipp").setLevel(logging.WARNING)` and `--quiet` do.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

DELAY_SECONDS = 2.0
LINE_SECONDS = 10.0  # between two lines, where there is no terminal


def track(
    iterable: Iterable[Item], *, total: int | None, label: str
) -> Generator[Item, None, None]:
    """The items unchanged, while stderr shows how many are done and the time left.

    On a terminal that is a bar, which goes when the items end or the generator is closed; elsewhere
    a line every ten seconds. Shorter work shows nothing, nor does that under two seconds there.

    Parameters
    ----------
    total : number of items; None where unknown, which leaves out the time left.
    label : what is being done, such as `train`.
    """
    if _is_hidden():
        yield from iterable
        return
    if not sys.stderr.isatty():
        yield from _with_lines(iterable, total, label)
        return
    yield from tqdm(
        iterable, total=total, desc=label, delay=DELAY_SECONDS, leave=False, dynamic_ncols=True
    )


def say(line: str) -> None:
    """A line on stderr, above a bar if there is one."""
    if not _is_hidden():
        tqdm.write(line, file=sys.stderr)


def _is_hidden() -> bool:
    return logging.getLogger("mipp").level > logging.INFO


def _with_lines(
    iterable: Iterable[Item], total: int | None, label: str
) -> Generator[Item, None, None]:
    started = said = time.monotonic()
    for done, item in enumerate(iterable):
        now = time.monotonic()
        if now - said >= LINE_SECONDS:
            said, spent = now, now - started
            parts = [f"{label}: {done}{f' of {total}' if total else ''}"]
            parts.append(f"{tqdm.format_interval(spent)} so far")
            if total and done:
                left = spent * max(total - done, 0) / done
                parts.append(f"about {tqdm.format_interval(left)} left")
            sys.stderr.write(", ".join(parts) + "\n")
        yield item
