"""Heads of attentions made narrower before anything is chosen, where fewer dimensions tell enough.

`narrow` does it to a network, and again to one that is rebuilt; `bases` turn dimensions so that the
first tell the most; `proof` finds out by which heads nothing else goes. The kinds of attention that
are known are in `mipp/layers/heads.py`.
"""

from mipp.narrowing.narrow import (
    MULTIPLE,
    attentions_in,
    narrowed,
    sizes_of_heads,
    wide_attentions,
    with_head_sizes,
    with_narrowest_heads,
)

__all__ = [
    "MULTIPLE",
    "attentions_in",
    "narrowed",
    "sizes_of_heads",
    "wide_attentions",
    "with_head_sizes",
    "with_narrowest_heads",
]
