"""Removes dropped channels physically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from mipp.errors import CutError, option
from mipp.graph import ChannelGroup, with_projections
from mipp.graph.build import find_groups
from mipp.graph.cutting import cut_channels
from mipp.inputs import Call, Inputs
from mipp.layers import layer_of
from mipp.layers.counts import recount
from mipp.narrowing import with_head_sizes
from mipp.selection.selection import Selection


def apply_selection(
    model: nn.Module, selection: Selection, example: Inputs, calls: Sequence[Call] = ()
) -> nn.Module:
    """A smaller copy of the model without the dropped channels; weights of the rest as they were.

    The copy computes what the model computes when the dropped channels are zero at the input
    of every consumer and each layer-norm takes its statistics over the kept channels alone, as
    does every mean of channels, or the like, that forward computes.

    Parameters
    ----------
    example : one input, shape (1, ...), on the model's device, as `build_graph` takes it.
    calls : those that the selection was made with.

    Raises
    ------
    CutError : a group is empty, or the selection was made for other widths.
    """
    model = with_head_sizes(with_projections(model, example, calls), selection.head_sizes())
    _check(model, selection)
    return _cut(model, selection, find_groups(model, example, calls))


def apply_to_groups(
    model: nn.Module, selection: Selection, groups: Mapping[str, ChannelGroup]
) -> nn.Module:
    """The copy that `apply_selection` gives, of a network whose groups are known.

    Parameters
    ----------
    model : as `with_projections` gives it, and `narrowed` after that.
    groups : of its graph.

    Raises
    ------
    CutError : as for `apply_selection`.
    """
    _check(model, selection)
    return _cut(model, selection, groups)


def _cut(model: nn.Module, selection: Selection, groups: Mapping[str, ChannelGroup]) -> nn.Module:
    dropped = {name: selection.dropped(name) for name in selection.kept}
    _check_groups(model, selection, groups)
    cut = cut_channels(model, groups, dropped)
    recount(model, cut)
    return cut


def _check(model: nn.Module, selection: Selection) -> None:
    modules = dict(model.named_modules())
    if selection.kept.keys() != selection.width.keys():
        odd = sorted(selection.kept.keys() ^ selection.width.keys())
        raise CutError(
            f"selection by {selection.method!r} is malformed: groups {odd} have kept channels or "
            "a width, but not both.\nExpected both for every group; make the selection anew."
        )
    for name, width in selection.width.items():
        own = modules.get(name, modules.get(name.rsplit("-", 1)[0]))  # "conv-8": some of conv's
        layer = layer_of(own) if own is not None else None
        found = layer.width if layer is not None else None
        wrong = not found or (found % width > 0 if name in modules else found < width)
        if own is None or (layer is not None and wrong):
            # a channel may be several features; one of heads bears any module's name
            raise _misfit(model, selection, name, found)
        kept = np.asarray(selection.kept[name])
        if kept.size == 0:
            raise CutError(
                f"selection by {selection.method!r} empties group {name!r} of "
                f"{type(model).__name__}: the layer has collapsed.\nExpected at least one of "
                f"its {width} channels, got none; use a milder budget or "
                f"{option('min_channels')}=1."
            )
        if kept.min() < 0 or kept.max() >= width or np.any(np.diff(kept) <= 0):
            raise CutError(
                f"selection by {selection.method!r} is malformed in group {name!r}.\nExpected "
                f"sorted distinct channels in [0, {width}), got {kept.tolist()[:8]}."
            )


def _check_groups(
    model: nn.Module, selection: Selection, groups: Mapping[str, ChannelGroup]
) -> None:
    for name, width in selection.width.items():
        found = groups[name].width if name in groups else None
        if found != width:
            raise _misfit(model, selection, name, found)


def _misfit(model: nn.Module, selection: Selection, name: str, found: int | None) -> CutError:
    return CutError(
        f"selection by {selection.method!r} does not fit {type(model).__name__}.\n"
        f"Group {name!r}: expected {selection.width[name]} channels, got "
        f"{found or 'no such module'}; make the selection anew for this model."
    )
