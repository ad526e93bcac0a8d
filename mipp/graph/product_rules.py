"""What products of matrices do to labels: attention, written out or in one operator.

A product sums over an axis: what it sums up can only go together, and what tells its rows,
columns or batches apart still does. So a head of attention goes as one:

    q (heads, tokens, size) @ k^T      size is summed up: the rows of a head's queries and keys
    softmax(scores) @ v                tokens are: the features of its values, with its scores
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mipp.graph.label_axes import along, constant, varying_axes
from mipp.graph.reasons import MEETS, Reason
from mipp.graph.record import NONE, Labels, Uncovered
from mipp.graph.tracker import Tracker
from mipp.inputs import tensors_in

Found = Labels | None


def multiply(tracker: Tracker, args: tuple[Any, ...], before: int, output: Tensor) -> None:
    """A product of matrices, which may be added to something."""
    sides = [tracker.labels_of(tensor) for tensor in args[before : before + 2]]
    labels = _product(tracker, sides[0], sides[1])
    if before:
        labels = _plus(tracker, labels, args[0], output)
    tracker.put(output, None if labels is None else labels.expand(output.shape))


def convolve(
    tracker: Tracker, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any, output: Tensor
) -> bool:
    """A convolution of every channel by itself, as a blur, with kernels that no layer holds."""
    channels, labels = x.shape[1], tracker.read(x, 1)
    if bias is not None or labels is None or len(weight) != channels or output.shape[1] != channels:
        return False
    if weight.shape[1] != 1 or rest[-1] != channels:
        return False
    kernels = tracker.labels_of(weight)
    if kernels is not None and not constant(kernels, 0):
        flat = kernels.reshape(channels, -1)
        tracker.record.couple(labels[:, None].expand(flat.shape), flat)
        tracker.record.fix(flat[labels < 0], Reason("values", f"{tracker.where()} {MEETS}"))
    tracker.put(output, along(labels, 1, output))
    return True


def attend(tracker: Tracker, args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
    """Scaled dot products of queries and keys, a softmax, and sums of values."""
    tensors = tensors_in((args, kwargs))
    query, key, value = tensors[:3]
    made = tensors_in(output)
    if made[0].shape != (*query.shape[:-1], value.shape[-1]):
        raise Uncovered
    q, k, v = (_repeated(tracker.labels_of(x), query.shape[1]) for x in (query, key, value))
    scores = _product(tracker, q, None if k is None else k.transpose(-2, -1))
    shape = torch.empty((*query.shape[:-1], key.shape[-2]), device="meta")
    for mask in tensors[3:]:
        if mask.ndim == query.ndim:
            scores = _plus(tracker, scores, mask, shape)
    labels = _product(tracker, scores, v)
    for tensor in made:
        tracker.put(tensor, None)
    tracker.put(made[0], None if labels is None else labels.expand(made[0].shape))


def _repeated(labels: Found, heads: int) -> Found:
    """Keys or values that several heads of queries read."""
    if labels is None or labels.shape[1] == heads:
        return labels
    return labels.repeat_interleave(heads // labels.shape[1], 1)


def _product(tracker: Tracker, left: Found, right: Found) -> Found:
    """Labels of (..., n, k) @ (..., k, m), to be expanded to (..., n, m)."""
    where = tracker.where("a product")
    rows, columns = _summed(tracker, left, -1, where), _summed(tracker, right, -2, where)
    if rows is None or columns is None:
        return rows if columns is None else columns
    shared = _shared(tracker, rows, columns)
    if shared is not None:
        tracker.record.fix(
            shared,
            Reason(
                "mixed",
                f"{where} multiplies it with several heads, which would have to go together",
            ),
        )
        return rows if shared is columns else columns
    met = rows.amax(-2, keepdim=True)  # in a batch, every row meets every column
    tracker.record.couple(rows, met.expand(rows.shape))
    tracker.record.couple(columns, met.expand(columns.shape))
    _note_heads(tracker, met)
    return met if bool((met >= 0).all()) else torch.where(met >= 0, met, columns)


def _summed(tracker: Tracker, labels: Found, axis: int, where: str) -> Found:
    """One label of all that is summed up; None where that is all that there is."""
    if labels is None or constant(labels, axis):
        return None if labels is None else labels.narrow(axis, 0, 1)
    reason = Reason("mixed", f"{where} sums up its channels")
    found = tracker.record.join(labels, axis, reason)
    if varying_axes(found):
        _note_heads(tracker, found)
        return found
    tracker.record.fix(labels, reason)
    return None


def _note_heads(tracker: Tracker, labels: Labels) -> None:
    scope = tracker.scope[-1].name if tracker.scope else ""
    tracker.record.heads.append((scope, torch.unique(labels[labels >= 0])))


def _shared(tracker: Tracker, rows: Labels, columns: Labels) -> Labels | None:
    """The side of a product that is the same for units of the other, which can go without it."""

    def apart(labels: Labels) -> bool:
        return any(not constant(labels, axis) for axis in range(labels.ndim - 2))

    for mine, other in ((columns, rows), (rows, columns)):
        if tracker.record.is_bare(mine) and _meets_several(mine, other):
            return mine
    if apart(rows) != apart(columns):
        return columns if apart(rows) else rows
    # without batches it is the right side that all rows read: (heads and tokens, k) @ (k, size)
    several = varying_axes(rows) and varying_axes(columns)
    return columns if several and not apart(rows) else None


def _meets_several(mine: Labels, other: Labels) -> bool:
    """Whether an element of one side meets different labels of the other."""
    shape = np.broadcast_shapes(mine.shape, other.shape)
    pairs = torch.stack([mine.expand(shape), other.expand(shape)], -1).reshape(-1, 2)
    pairs = torch.unique(pairs, dim=0)
    return len(torch.unique(pairs[:, 0])) < len(pairs)


def _plus(tracker: Tracker, labels: Found, other: Tensor, made: Tensor) -> Found:
    """Labels of a product and of what is added to it, such as a bias by position and head."""
    added = tracker.labels_of(other)
    if added is None or labels is None:
        tracker.record.fix(added, Reason("values", f"{tracker.where()} {MEETS}"))
        return labels
    added = added.reshape((1,) * (made.ndim - added.ndim) + added.shape)
    if any(added.shape[axis] == 1 for axis in varying_axes(labels)):
        tracker.record.fix(
            added, Reason("mixed", f"{tracker.where()} joins one of its channels with many others")
        )
        return labels
    whole, added = labels.expand(made.shape), added.expand(made.shape)
    tracker.record.couple(whole, added)
    return torch.where(whole == NONE, added, whole)
