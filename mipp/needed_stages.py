"""The stages by name, and which of them a method needs.

Activations are read, and information estimated, for mipp alone.
A stage that is not needed does nothing, and its seconds are nobody's. Its folder is there all the
same, empty but for a manifest, or with what a run of mipp has left in it.
"""

from __future__ import annotations

from mipp.settings import MIPP

NAMES = ("train", "extract", "estimate", "choose", "prune", "finetune", "evaluate", "report")
SEARCH = ("extract", "estimate", "choose")  # everything between training and the cut


def is_needed(stage: str, method: str) -> bool:
    """Whether a stage does anything for a method of `choose`."""
    return method == MIPP or stage not in ("extract", "estimate")


def search_of(method: str) -> tuple[str, ...]:
    """Stages whose seconds are a method's search."""
    return tuple(stage for stage in SEARCH if is_needed(stage, method))
