"""`mipp.inspect`: what of a network can be pruned, without pruning it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mipp.errors import as_written, option
from mipp.graph import ChannelGraph
from mipp.graph.whole import whole_parts
from mipp.inputs import Call, Shape
from mipp.layers.heads import Attention
from mipp.metrics import count_macs, count_params
from mipp.narrowing import MULTIPLE, wide_attentions, with_narrowest_heads
from mipp.pruning.inspection import KINDS, GroupShare, HeadsShare, Inspection
from mipp.pruning.planner import LOOKED_AT, Planner
from mipp.selection.limits import Floors, floors_of
from mipp.selection.spending import spent
from mipp.settings import Limits


def inspect(
    model: nn.Module,
    example: Any,
    *,
    calls: Sequence[Call] = (),
    min_channels: int = Limits.min_channels,
    round_to: int = Limits.round_to,
    limits: Mapping[str, float] | None = None,
    ignore: Sequence[str] = (),
    keep_outputs: Sequence[str] = (),
    keep_inputs: Sequence[str] = (),
) -> Inspection:
    """What of a network can be pruned, how far, and why the rest stays whole; prunes nothing.

    Parameters
    ----------
    example : one batch of what `mipp.prune` takes as `calibration`, such as inputs (n, ...), or
        (inputs, labels); or a loader or list of such, of which the first batches are read.
    calls, min_channels, round_to, limits, ignore, keep_outputs, keep_inputs : as for `mipp.prune`.

    Returns
    -------
    A value that prints as a page, in notebooks as tables; `.to_dict()` is for JSON.

    Raises
    ------
    InputError : the network cannot be traced, or the example is nothing that it takes.

    Example
    -------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> found = inspect(model, torch.randn(2, 8))
    >>> found.least["macs"], [(group.name, group.width) for group in found.groups]
    (0.0625, [('0', 16)])
    >>> found.whole[0].layers, found.whole[0].what
    ('2', 'the network returns their channels')
    """
    batches = [example] if _is_batch(example) else example
    with as_written({"calibration": "example", "calls": option("calls")}):
        planner = Planner(model, batches, images=LOOKED_AT, calls=calls, narrow_heads=1)
    shares = {} if limits is None else limits
    named = (ignore, keep_outputs, keep_inputs)
    bounds = Limits(min_channels, round_to, shares, *named)  # type: ignore[arg-type]  # makes tuples
    graph = planner.channels
    inputs = next(iter(planner.calibration.inputs()))
    whole = (*bounds.ignore, *bounds.keep_outputs, *bounds.keep_inputs)
    wide = wide_attentions(planner.model, inputs, whole)
    return _inspection(planner.model, planner.shape, graph, bounds, wide)


def _is_batch(example: object) -> bool:
    """Whether it is one batch; a list is, as a loader collates it, unless it holds batches."""
    if isinstance(example, list):
        return not all(isinstance(one, (tuple, list, Mapping)) for one in example)
    return isinstance(example, (Tensor, tuple, Mapping))


def _inspection(
    model: nn.Module,
    shape: Shape,
    graph: ChannelGraph,
    limits: Limits,
    wide: Sequence[Attention],
) -> Inspection:
    floors = floors_of(graph, limits)
    macs = graph.macs(graph.widths)
    beside = sum(product.macs for product in graph.products if not product.factors)
    shares = (_group_share(graph, name, floors[name]) for name in graph.groups)
    return Inspection(
        network=type(model).__name__,
        shape=shape,
        macs=macs,
        params=graph.params(graph.widths),
        least=_least(graph, floors),
        groups=tuple(sorted(shares, key=lambda share: -share.macs)),
        whole=whole_parts(graph, floors),
        heads=_heads_share(model, shape, wide),
        fixed=beside / max(1, macs),
        no_fewer_outputs=tuple(_keeping(graph, "outputs")),
        no_fewer_inputs=tuple(_keeping(graph, "inputs")),
        unreached=graph.unreached,
    )


def _least(graph: ChannelGraph, floors: Floors) -> dict[str, float]:
    """Shares that are left at the floors; all of a network without groups."""
    return {kind: spent(graph, floors, kind) if graph.groups else 1.0 for kind in KINDS}


def _group_share(graph: ChannelGraph, name: str, least: int) -> GroupShare:
    cut = {**graph.widths, name: least}
    gone = {kind: 1 - spent(graph, cut, kind) for kind in ("macs", "params")}
    return GroupShare(name, graph.widths[name], least, **gone)


def _heads_share(model: nn.Module, shape: Shape, wide: Sequence[Attention]) -> HeadsShare | None:
    if not wide:
        return None
    least = with_narrowest_heads(model, wide)
    return HeadsShare(
        {one.name: one.size for one in wide},
        MULTIPLE,
        1 - count_macs(least, shape) / count_macs(model, shape),
        1 - count_params(least) / count_params(model),
    )


def _keeping(graph: ChannelGraph, side: str) -> Iterator[str]:
    """Layers with weights that no group lies on one side of."""
    groups: dict[str, set[str]] = {}
    for cost in graph.costs:
        if cost.weights:
            groups.setdefault(cost.owner, set()).update(getattr(cost, side))
    return (name for name, found in groups.items() if not found)
