"""What a layer does to labels, by the role that its adapter names: reads, carries, makes, keeps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mipp.graph import operation_rules
from mipp.graph.label_axes import along, constant, narrow, varying_axes
from mipp.graph.reasons import MEETS, Reason
from mipp.graph.record import NONE, Labels
from mipp.graph.tracker import Place, Tracker
from mipp.inputs import tensors_in
from mipp.layers import Layer


def follow_operator(tracker: Tracker, name: str, operands: list[Tensor], output: Any) -> bool:
    """An operator or function of torch, if it does the work of a layer."""
    first = 1 if name == "addmm" else 0
    others = [tensor for i, tensor in enumerate(operands) if i != first]
    place = tracker.worker(name, others) if len(operands) > first else None
    if place is None or not _fits(place, operands[first], output):
        return False
    labelled = [tensor for tensor in others if tracker.labels_of(tensor) is not None]
    made = tensors_in(output)[0]
    if any(tensor.shape != made.shape[-1:] for tensor in labelled):
        return False
    follow_layer(tracker, place, operands[first], output)
    for bias in labelled:  # one of another module, or made of several
        operation_rules.combine(tracker, [made, bias], made)
    return True


def _fits(place: Place, x: Tensor, output: Any) -> bool:
    """Whether a layer's weights are used as they lie, not transposed."""
    layer, made = place.known, tensors_in(output)[0]
    if layer is None or layer.weight is None or layer.inner:
        return True
    read = layer.inputs.axis < x.ndim and x.shape[layer.inputs.axis] == layer.inputs.features
    return read and made.shape[layer.outputs.axis] == layer.outputs.features


def follow_layer(tracker: Tracker, place: Place, x: Tensor, output: Any) -> None:
    """The work of a layer on an input, whatever operators it is made of."""
    layer, made = place.known, tensors_in(output)[0]
    assert layer is not None
    if layer.role == "fixed":
        kind = f"a kind of layer that cannot be cut{layer.whole_because}"
        tracker.record.fix(tracker.labels_of(x), Reason("kind", f"{place} reads it, {kind}"))
        _make(tracker, place, layer, made, Reason("kind", f"{place} makes it, {kind}"))
    elif layer.role == "carries":
        _carry(tracker, place, layer, x, made)
    elif layer.role == "both" and place.name in tracker.across:
        _mix_in_groups(tracker, place, layer, x, made)
    elif layer.role == "both":
        _regroup(tracker, place, layer, x, made)
    elif _runs_along_places(tracker, layer, x, made):
        _run_along(tracker, place, layer, x, made)
    else:
        _consume(tracker, place, layer, x)
        if layer.heads() is not None:
            tracker.put(made, None)
        else:
            again = Reason("kind", f"{place} reads its own outputs again, of which none can go")
            _make(tracker, place, layer, made, again if layer.inner else None)


def _carry(tracker: Tracker, place: Place, layer: Layer, x: Tensor, made: Tensor) -> None:
    """Channels stay what they are.

    One that goes no longer counts in statistics that run over channels, so that what
    remains is a norm of the kept channels, not the old one with zeros among them.
    """
    labels = tracker.labels_of(x)
    if labels is None:
        tracker.record.touch(
            "passengers", place.name, torch.full((layer.inputs.features,), NONE, device="cpu")
        )
        tracker.put(made, None)
        return
    if layer.couples and _is_divided(tracker, labels, layer.inputs.axis):
        tracker.put(made, operation_rules.normalise(tracker, labels, layer.inputs.axis))
        return
    read = tracker.read(x, layer.inputs.axis)
    if read is None or (layer.couples and bool((read < 0).any())):
        text = f"{place} runs over channels of several layers, or over other axes with them"
        tracker.fix([x], made, Reason("order", text))
        return
    if layer.inputs.units is not None:
        units = read[layer.inputs.each()]
        tracker.record.couple(units, units[:, :1].expand(units.shape))
        tracker.record.fix(units[(units < 0).any(1)], Reason("values", f"{place} {MEETS}"))
    tracker.record.touch("passengers", place.name, read)
    same = made.shape == labels.shape
    tracker.put(made, labels if same else along(read, layer.outputs.axis, made))


def _is_divided(tracker: Tracker, labels: Labels, axis: int) -> bool:
    """Whether a norm runs over one of several axes that one layer's outputs are laid out in."""
    varying = varying_axes(labels)
    if len(varying) < 2 or axis % labels.ndim not in varying:
        return False
    ranges = [(touch.labels[0], touch.labels[-1]) for touch in tracker.record.producers]
    low, high = int(labels[labels >= 0].min()), int(labels.max())
    return any(first <= low and high <= last for first, last in ranges)


def _regroup(tracker: Tracker, place: Place, layer: Layer, x: Tensor, made: Tensor) -> None:
    """Units of outputs come each from its own unit of inputs, and go with it."""
    read = tracker.read(x, layer.inputs.axis)
    if read is None or bool((read < 0).any()):
        reason = Reason("order", f"{place} reads it in groups that its channels do not fill")
        tracker.record.fix(tracker.labels_of(x), reason)
        _make(tracker, place, layer, made, reason)
        return
    fresh = tracker.record.fresh([layer.outputs.features])
    units = read[layer.inputs.each()]
    for labels in (units, fresh[layer.outputs.each()]):
        tracker.record.couple(labels, units[:, :1].expand(labels.shape))
    tracker.record.touch("passengers", place.name, fresh)
    tracker.put(made, along(fresh, layer.outputs.axis, made))


def _mix_in_groups(tracker: Tracker, place: Place, layer: Layer, x: Tensor, made: Tensor) -> None:
    """Index j of every group is one unit of inputs, and another of outputs: groups stay equal."""
    read = _consume(tracker, place, layer, x)
    fresh = _make(tracker, place, layer, made, None)
    for labels, side in ((read, layer.inputs), (fresh, layer.outputs)):
        if labels is None:
            continue
        units = labels[side.each().T]  # (index, group)
        tracker.record.couple(units[:, :1].expand(units.shape), units)
        some = units[(units < 0).any(1)]
        tracker.record.fix(some, Reason("values", f"{place} {MEETS} in another of its groups"))


def _runs_along_places(tracker: Tracker, layer: Layer, x: Tensor, made: Tensor) -> bool:
    """Whether a layer reads places of each channel, such as tokens: channels lie along others."""
    labels, axis = tracker.labels_of(x), layer.inputs.axis
    if labels is None or not labels.numel() or made.ndim != x.ndim:
        return False
    read, out, window = list(x.shape), list(made.shape), layer.window
    del read[axis], out[layer.outputs.axis]
    if read != out or (window is not None and max(window.kernel) > 1):
        return False
    if layer.inner or layer.heads() is not None:
        return False
    return constant(labels, axis) and bool(varying_axes(labels))


def _run_along(tracker: Tracker, place: Place, layer: Layer, x: Tensor, made: Tensor) -> None:
    """Each channel is what it was, made of its own places; what a layer makes of places stays."""
    labels = tracker.labelled(x).narrow(layer.inputs.axis, 0, 1)
    reason = Reason("kind", f"{place} runs along the places of every channel, of which none can go")
    _make(tracker, place, layer, made, reason)
    tracker.record.along_places[place.name] = narrow(labels)
    tracker.put(made, labels.expand(made.shape))


def _consume(tracker: Tracker, place: Place, layer: Layer, x: Tensor) -> Labels | None:
    """Label of each feature that is read; None where none is, or they cannot be told."""
    labels = tracker.labels_of(x)
    if labels is None:
        tracker.record.touch(
            "consumers", place.name, torch.full((layer.inputs.features,), NONE, device="cpu")
        )
        return None
    objection = layer.objection(tracker.arguments[-1] if tracker.arguments else ())
    read = tracker.read(x, layer.inputs.axis) if not objection else None
    if read is not None:
        tracker.record.touch("consumers", place.name, read)
    elif objection:
        tracker.record.fix(labels, Reason("kind", f"{place} reads it{objection}"))
    else:
        tracker.record.fix(
            labels,
            Reason(
                "order",
                f"{place} reads its channels in another order at some places than at others",
            ),
        )
    return read


def _make(
    tracker: Tracker, place: Place, layer: Layer, made: Tensor, reason: Reason | None
) -> Labels:
    axis = layer.outputs.axis
    fresh: Labels = tracker.record.fresh([made.shape[axis]])
    tracker.record.touch("producers", place.name, fresh)
    if reason:
        tracker.record.fix(fresh, reason)
    tracker.put(made, along(fresh, axis, made))
    return fresh
