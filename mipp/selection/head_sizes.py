"""Sizes of heads that became narrower before units were chosen, in a selection's provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mipp.errors import CutError

KEY = "head sizes"


def written(sizes: Mapping[str, int]) -> str:
    """Sizes by the name of the attention, as a text that `read_sizes` reads back.

    >>> read_sizes(written({"attention": 16}))
    {'attention': 16}
    """
    return json.dumps(dict(sizes), sort_keys=True)


def read_sizes(text: str) -> dict[str, int]:
    """What `written` wrote; nothing of no text.

    Raises
    ------
    CutError : it is something else.
    """
    try:
        sizes = json.loads(text or "{}")
    except ValueError:
        sizes = None
    if not isinstance(sizes, dict) or not all(type(s) is int and s > 0 for s in sizes.values()):
        raise CutError(
            "selection has malformed sizes of heads.\nExpected whole numbers by the name of an "
            f"attention, got {text[:80]!r}; make the selection anew."
        )
    return sizes
