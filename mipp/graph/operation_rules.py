"""What operations without a module do to labels: move, join, average, pool, couple or mix them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mipp.graph.label_axes import along, compact, constant, on_cpu, varying_axes
from mipp.graph.operations import SPLITS, VIEWS, WIDTHS
from mipp.graph.reasons import MEETS, ONE_OF_ALL, Reason
from mipp.graph.record import NONE, Labels, Layout, Reduction, Touch, Uncovered
from mipp.graph.tracker import Tracker
from mipp.inputs import tensors_in


def move(tracker: Tracker, func: Any, args: Any, kwargs: Any, output: Any) -> None:
    """Labels go where the elements go."""
    name = func.overloadpacket.__name__
    if any(tracker.labels_of(t) is not None for t in tensors_in((args[1:], kwargs))):
        text = f"{tracker.where(name)} moves elements to places that are computed from its channels"
        tracker.fix(tensors_in((args, kwargs)), output, Reason("mixed", text))
        return
    labels = tracker.labels_of(args[0])
    assert labels is not None
    if name == "as_strided":
        tracker.fix([args[0]], output, tracker.unknown(name))
        return
    kwargs = {k: v for k, v in kwargs.items() if k not in ("dtype", "device", "layout")}
    moved = _on_labels(func, labels.contiguous(), *on_cpu(args[1:]), **on_cpu(kwargs))
    if name in VIEWS:
        _note_view(tracker, labels, moved)
    elif name in SPLITS or name == "slice":
        _note_parts(tracker, labels, tensors_in(moved))
    for tensor, label in zip(tensors_in(output), tensors_in(moved), strict=True):
        if label.numel() != tensor.numel():
            raise Uncovered
        tracker.put(tensor, label.reshape(tensor.shape))


def join(tracker: Tracker, name: str, func: Any, args: Any, kwargs: Any, output: Tensor) -> None:
    """Concatenation and padding keep every label."""
    if name == "constant_pad_nd":
        labels = tracker.labels_of(args[0])
        tracker.put(output, _on_labels(func, labels, args[1], NONE))
        return
    parts = [tracker.labelled(tensor) for tensor in args[0]]
    tracker.put(output, _on_labels(func, parts, *args[1:], **kwargs))


def wrap(tracker: Tracker, func: Any, args: Any, kwargs: Any, output: Tensor) -> None:
    """Padding with what lies at the other end, which torch copies part by part."""
    given = {"input": args[0], **kwargs} if args else kwargs
    labels = tracker.labels_of(given.pop("input"))
    tracker.put(output, None if labels is None else func(labels, *args[1:], **given))


def _on_labels(func: Any, *args: Any, **kwargs: Any) -> Any:
    """What an operator makes of labels in the place of its tensors."""
    try:
        return func(*args, **kwargs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise Uncovered from error


def keep(tracker: Tracker, args: Any, output: Any) -> None:
    """Element for element the same."""
    for tensor in tensors_in(output):
        same = tensor.shape == args[0].shape
        tracker.put(tensor, tracker.labels_of(args[0]) if same else None)


def reduce(tracker: Tracker, name: str, args: Any, kwargs: Any, output: Any) -> bool:
    """A mean, maximum or the like; along the one axis of channels, it is that of the kept ones."""
    place = 2 if name in ("norm", "linalg_vector_norm") else 1  # after the order of the norm
    dims = kwargs.get("dim", args[place] if len(args) > place else None)
    if isinstance(dims, (float, Tensor)):
        return False
    x = args[0]
    dims = range(x.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    if not all(isinstance(d, int) and d < x.ndim for d in dims):
        raise Uncovered
    dims = [d % x.ndim for d in dims] or list(range(x.ndim))
    labels = tracker.labels_of(x)
    if labels is None:
        return False
    if not set(varying_axes(labels)) - set(dims) and not all(constant(labels, d) for d in dims):
        return not _of_one_less(name, args, kwargs) and _note_statistic(tracker, x, output)
    for d in dims:
        labels = normalise(tracker, labels, d).narrow(d, 0, 1)
    for tensor in tensors_in(output):
        if tensor.numel() != labels.numel():
            raise Uncovered
        tracker.put(tensor, labels.reshape(tensor.shape))
    return True


def _of_one_less(name: str, args: Any, kwargs: Any) -> bool:
    """Whether a variance divides by one less than there are: a single channel would have none."""
    given = args[2] if len(args) > 2 else kwargs.get("unbiased", kwargs.get("correction", 1))
    return name in ("var", "std", "var_mean", "std_mean") and bool(given is None or given)


def _note_statistic(tracker: Tracker, x: Tensor, output: Any) -> bool:
    """One value of all channels along an axis, none of which is without a label."""
    axes = varying_axes(tracker.labelled(x))
    read = tracker.read(x, axes[0]) if len(axes) == 1 else None
    if read is None or bool((read < 0).any()):
        return False
    module = tracker.scope[-1].name if tracker.scope else ""
    found = Reduction(module, tracker.reductions[module] - 1, axes[0] - x.ndim)
    key = f"{module}#{found.before}"
    tracker.record.reductions[key] = found
    tracker.record.statistics.append(Touch(key, read.numpy()))
    for tensor in tensors_in(output):
        tracker.put(tensor, None)
        tracker.statistics[id(tensor)] = (tensor, read)
    return True


def scale(tracker: Tracker, x: Tensor, axis: int, output: Tensor) -> bool:
    """A softmax, if it does not run over the one axis of channels."""
    labels = tracker.labelled(x)
    if varying_axes(labels) == [axis % x.ndim]:
        return False
    tracker.put(output, normalise(tracker, labels, axis))
    return True


def scale_each(tracker: Tracker, args: Any, output: Any) -> None:
    """A batch-norm whose factors and statistics no layer holds: each channel has its own."""
    x, labels = args[0], tracker.labelled(args[0])
    if set(varying_axes(labels)) - {1}:
        raise Uncovered
    sides = [labels]
    for factor in args[1:5]:  # scale, shift, mean and variance, where they are given
        own = tracker.labels_of(factor)
        if own is not None and own.shape == x.shape[1:2]:
            sides.append(own.reshape(1, -1, *[1] * (x.ndim - 2)))
    tracker.put(tensors_in(output)[0], _couple(tracker, sides, x.shape))


def normalise(tracker: Tracker, labels: Labels, axis: int) -> Labels:
    """A softmax, a norm or the like over an axis: what else than it tells apart stays apart."""
    if constant(labels, axis):
        return labels
    reason = Reason("mixed", f"{tracker.where()} {ONE_OF_ALL}")
    return tracker.record.join(labels, axis, reason).expand(labels.shape)


def pool(tracker: Tracker, args: Any, output: Any, axes: int) -> None:
    """Pooling and resampling over the last axes, or back to the places that pooling noted."""
    x = args[0]
    labels = tracker.labelled(x)
    if len(args) > 1 and tracker.labels_of(args[1]) is not None:
        labels = _couple(tracker, [labels, tracker.labelled(args[1])], x.shape)
    over = [x.ndim - axis for axis in range(1, axes + 1)]
    if not set(varying_axes(labels)) - set(over) and not all(constant(labels, a) for a in over):
        text = f"{tracker.where('pooling')} runs over its channels as if they were places"
        tracker.fix([x], output, Reason("mixed", text))
        return
    for axis in over:
        labels = normalise(tracker, labels, axis).narrow(axis, 0, 1)
    for tensor in tensors_in(output):
        if tensor.shape[:-axes] != x.shape[:-axes]:
            raise Uncovered
        tracker.put(tensor, labels.expand(tensor.shape))


def sample(tracker: Tracker, operands: list[Tensor], output: Any, name: str) -> None:
    """Maps read at places that other operands give: channels stay, the places cannot be cut."""
    x, *places = operands
    for tensor in places:
        tracker.record.fix(
            tracker.labels_of(tensor),
            Reason("mixed", f"{tracker.where(name)} takes them for places in a map"),
        )
    made = tensors_in(output)[0]
    labels = tracker.read(x, 1)
    if labels is None or made.shape[1] != x.shape[1]:
        text = f"{tracker.where(name)} reads its channels in different orders at different places"
        tracker.fix([x], output, Reason("order", text))
    else:
        tracker.put(made, along(labels, 1, made))


def fold(tracker: Tracker, x: Tensor, output: Tensor) -> None:
    """Patches of maps laid out as channels, or put back: those of a channel are its own."""
    batched = {x.ndim, output.ndim} == {3, 4}
    labels = tracker.read(x, 1) if batched else None
    if labels is None:
        raise Uncovered
    before, after = x.shape[1], output.shape[1]
    if after > before:
        labels = labels.repeat_interleave(after // before)
    else:
        columns = list(labels.view(after, -1).unbind(1))
        labels = _couple(tracker, columns, torch.Size([after]))
    tracker.put(output, along(labels, 1, output))


def halve(tracker: Tracker, x: Tensor, dim: int = -1, *, output: Tensor) -> None:
    """A half gates the other: index j of both is one channel."""
    halves = list(tracker.labelled(x).chunk(2, dim))
    tracker.put(output, _couple(tracker, halves, output.shape))


def combine(tracker: Tracker, operands: list[Tensor], output: Any) -> None:
    """Element-wise operations couple the labels that meet."""
    made = {tensor.shape for tensor in tensors_in(output)}
    if len(made) != 1 or not all(_spreads(tensor.shape, *made) for tensor in operands):
        raise Uncovered
    [shape] = made
    rank = len(shape)
    sides = []
    for tensor in operands:
        if _is_cut_with_its_layer(tracker, tensor):
            continue
        labels = tracker.labels_of(tensor)
        if labels is None:  # one value, expanded, meets as many as there are
            labels = torch.full(tensor.shape, NONE, device="cpu")
            for axis, stride in enumerate(tensor.stride()):
                labels = labels if stride else labels.narrow(axis, 0, 1)
        if tensor.numel() > 1 or tracker.labels_of(tensor) is not None:
            sides.append(labels.reshape((1,) * (rank - labels.ndim) + labels.shape))
    if all(side.numel() for side in sides):  # the result bears a layer's labels, if some meet
        sides.sort(key=lambda side: tracker.record.is_bare(side[(-1,) * rank]))
    result = _couple(tracker, sides, shape)
    for tensor in tensors_in(output):
        tracker.put(tensor, result if bool((result >= 0).any()) else None)


def _spreads(shape: torch.Size, over: torch.Size) -> bool:
    """Whether a tensor of one shape meets every element of another."""
    pairs = zip(reversed(shape), reversed(over), strict=False)
    return len(shape) <= len(over) and all(size in (1, whole) for size, whole in pairs)


def _couple(tracker: Tracker, sides: list[Labels], shape: torch.Size) -> Labels:
    where = tracker.where()
    result = torch.full(shape, NONE, device="cpu")
    met = []
    varying = set[int]().union(*map(varying_axes, sides))
    for side in sides:
        one_for_many = any(side.shape[axis] == 1 for axis in varying)
        if one_for_many and not _fits_all(tracker, side, sides):
            tracker.record.fix(
                side, Reason("mixed", f"{where} joins one of its channels with many others")
            )
            continue
        whole = side.expand(shape)
        tracker.record.couple(result, whole)
        result = torch.where(result >= 0, result, whole)
        met.append(whole)
    places = [axis for axis in range(len(shape)) if shape[axis] and axis not in varying]
    for whole in met:
        lost = (whole < 0) & (result >= 0)
        if places and bool(lost.any()):  # where it is padded, other places hold the channel
            lost &= whole.amax(places, keepdim=True) < 0
        tracker.record.fix(result[lost], Reason("values", f"{where} {MEETS}"))
    return result


def _fits_all(tracker: Tracker, side: Labels, sides: list[Labels]) -> bool:
    """Whether a bare parameter has a value for each channel, which others place by place have."""
    axes = varying_axes(side)
    if len(axes) != 1 or not tracker.record.is_bare(side):
        return False
    others = [other for other in sides if other is not side and bool((other >= 0).any())]
    if not all(_one_of_each_layer(tracker, other, axes[0]) for other in others):
        return False
    return all(tracker.lined_up(other, axes[0]) is not None for other in others)


def _one_of_each_layer(tracker: Tracker, labels: Labels, axis: int) -> bool:
    """Whether a place along an axis holds no two channels of a layer, as that of heads would."""
    owner = torch.arange(tracker.record.count, device="cpu")
    for touch in tracker.record.producers:
        made = torch.from_numpy(touch.labels[touch.labels >= 0])
        owner[made] = made.min()
    table = labels.movedim(axis, 0).flatten(1)  # (places, elements)
    place = torch.arange(len(table), device="cpu")[:, None].expand(table.shape)[table >= 0]
    held = table[table >= 0]
    pairs = (torch.stack((place, of)) for of in (held, owner[held]))
    channels, layers = (int(torch.unique(pair, dim=1).shape[1]) for pair in pairs)
    return channels == layers


def _is_cut_with_its_layer(tracker: Tracker, tensor: Tensor) -> bool:
    """Some layers add their bias, or multiply by their factors, apart."""
    holder = tracker.holder(tensor)
    if holder is None or holder.layer is None or holder.layer.role == "parts" or tensor.ndim > 1:
        return False
    own = holder.layer.outputs.tensors
    return any(getattr(holder.layer.module, name) is tensor for name in own)


def _note_view(tracker: Tracker, labels: Labels, moved: Labels) -> None:
    """A view that makes one axis of channels two, one of two, or one of another length."""
    before, after = compact(labels), compact(moved)
    if after.ndim == 1:
        _note_sizes(tracker, moved, varying_axes(moved)[0])
    if after.shape != before.shape:
        _note_layout(tracker, after, divides=after.ndim > before.ndim)


def _note_parts(tracker: Tracker, labels: Labels, parts: list[Labels]) -> None:
    """Equal parts of the one axis of channels; slices of it, once they make up the whole."""
    if not all(part.numel() for part in parts):
        return  # a slice of nothing, such as no class token, says nothing of the others
    own = compact(labels)
    parts = [compact(part) for part in parts]
    if own.ndim != 1 or any(part.ndim != 1 for part in parts):
        return  # a part that is a single channel is no part that could lose one
    if any(part.shape != parts[0].shape for part in parts):
        for part in parts:  # whose length forward may keep
            _note_layout(tracker, part, divides=False)
        return
    if len(parts) == 1:
        name = tracker.scope[-1].name if tracker.scope else ""
        slices = tracker.record.slices.setdefault((name, int(own[0]), len(own)), {})
        slices[int(parts[0].min())] = parts[0]
        parts = [slices[start] for start in sorted(slices)]
    equal = all(part.shape == parts[0].shape for part in parts)
    if len(parts) > 1 and equal and torch.equal(torch.cat(parts), own):
        _note_layout(tracker, torch.stack(parts), divides=True)


def _note_layout(tracker: Tracker, labels: Labels, *, divides: bool) -> None:
    module = tracker.scope[-1].name if tracker.scope else ""
    tracker.record.layouts.append(Layout(module, labels, divides))


def _note_sizes(tracker: Tracker, moved: Labels, axis: int) -> None:
    """Attributes from which the running module may have read the size of this axis."""
    if not tracker.scope or tracker.scope[-1].known:
        return  # its adapter knows the numbers that it keeps
    name, module = tracker.scope[-1].name, tracker.scope[-1].module
    size = moved.shape[axis]
    features = moved.movedim(axis, 0).reshape(size, -1).amax(1)
    for attribute in WIDTHS:
        if module.__dict__.get(attribute) == size:
            tracker.record.sizes.setdefault((name, attribute), []).append(features)
