"""Removes dropped channels physically; Torch-Pruning does the cutting."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mipp.errors import SurgeryError
from mipp.graph.dependencies import cut_channels
from mipp.selection.selection import Selection


def apply_selection(model: nn.Module, selection: Selection, example: Tensor) -> nn.Module:
    """A smaller copy of the model without the dropped channels; weights of the rest as they were.

    The copy computes what the model computes when the dropped channels are zero at the input
    of every consumer.

    Parameters
    ----------
    example : one input, shape (1, ...), on the model's device.

    Raises
    ------
    SurgeryError : a group is empty, or the selection was made for other widths.
    """
    _check(model, selection)
    dropped = {name: selection.dropped(name) for name in selection.kept}
    return cut_channels(model, dropped, example)


def _check(model: nn.Module, selection: Selection) -> None:
    modules = dict(model.named_modules())
    if selection.kept.keys() != selection.width.keys():
        odd = sorted(selection.kept.keys() ^ selection.width.keys())
        raise SurgeryError(
            f"selection by {selection.method!r} is malformed: groups {odd} have kept channels or "
            "a width, but not both.\nExpected both for every group; make the selection anew."
        )
    for name, width in selection.width.items():
        root = modules.get(name)
        found = getattr(root, "out_channels", getattr(root, "out_features", None))
        if found != width:
            raise SurgeryError(
                f"selection by {selection.method!r} does not fit {type(model).__name__}.\n"
                f"Group {name!r}: expected {width} channels, got {found or 'no such module'}; "
                "make the selection anew for this model."
            )
        kept = np.asarray(selection.kept[name])
        if kept.size == 0:
            raise SurgeryError(
                f"selection by {selection.method!r} empties group {name!r} of "
                f"{type(model).__name__}: the layer has collapsed.\nExpected at least one of "
                f"its {width} channels, got none; use a milder budget or choose.min_channels=1."
            )
        if kept.min() < 0 or kept.max() >= width or np.any(np.diff(kept) <= 0):
            raise SurgeryError(
                f"selection by {selection.method!r} is malformed in group {name!r}.\nExpected "
                f"sorted distinct channels in [0, {width}), got {kept.tolist()[:8]}."
            )
