"""Progress on a terminal, and nothing anywhere else."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

DELAY_SECONDS = 2.0


def track(
    iterable: Iterable[Item], *, total: int | None, label: str
) -> Generator[Item, None, None]:
    """The items unchanged, while stderr shows how many are done and the time left.

    Work under two seconds shows nothing, nor does a stderr that is no terminal. The bar goes
    when the items end or the generator is closed.

    Parameters
    ----------
    total : number of items; None where unknown, which leaves out the time left.
    label : what is being done, such as `train`.
    """
    yield from tqdm(
        iterable,
        total=total,
        desc=label,
        delay=DELAY_SECONDS,
        leave=False,
        disable=None,
        dynamic_ncols=True,
    )
