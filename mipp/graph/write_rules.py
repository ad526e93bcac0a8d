"""Writes into parts of a tensor: what was written there is read from there.

y = torch.zeros(n, 14, h, w)
y[:, :8] = a; y[:, 8:] = b       as torch.cat([a, b], 1)
y[:, :, :2] = 0                  these places hold no channel, as padding holds none
y[rows] = a; y[others] = b       channel j of both is one unit, as whoever reads y reads it of both
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mipp.graph.label_axes import on_cpu
from mipp.graph.record import NONE, Labels, Uncovered
from mipp.graph.tracker import Tracker

WRITES = {"copy", "fill", "index_put", "zero"}


def write(tracker: Tracker, name: str, args: tuple[Any, ...], output: Tensor) -> None:
    """A copy or one value into a tensor or a view of one, or a copy into some of its places."""
    into, base = args[0], args[0]._base
    if output is not into or (base is not None and base.dtype != into.dtype):
        raise Uncovered
    whole = into if base is None else base
    labels = _laid_out_as(whole, tracker.labelled(whole))
    place = into.storage_offset() - whole.storage_offset()
    part = labels.as_strided(into.shape, into.stride(), place)
    if name == "copy":
        part.copy_(tracker.labelled(args[1]))
    elif name in ("fill", "zero"):
        part.fill_(NONE)
    elif len(args) > 3 and args[3]:
        raise Uncovered  # it adds
    else:
        torch.ops.aten.index_put_(part, on_cpu(args[1]), tracker.labelled(args[2]))
    for tensor, own in ((whole, labels), (into, part)):
        tracker.put(tensor, own if bool((own >= 0).any()) else None)


def _laid_out_as(tensor: Tensor, labels: Labels) -> Labels:
    """A copy of labels with the strides of their tensor."""
    whole = torch.empty_strided(tensor.shape, tensor.stride(), dtype=labels.dtype, device="cpu")
    return whole.copy_(labels)
