"""Follows every channel through a forward pass: each activation carries a label per element.

A label names the feature that an element came from: an output of a conv or linear layer, or an
element of a bare parameter. Operations that only move elements move their labels; element-wise
ones couple the labels that meet; conv and linear layers read the labels of their input and make
new ones. What mixes labels in any other way fixes them: those channels stay whole. Works below
`nn.Module`, so that functional calls, concatenations and views need no support of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mipp.graph import module_rules, operation_rules, product_rules, read_sizes, write_rules
from mipp.graph.operations import (
    ATTENTION,
    AXES_OF,
    BATCH_NORMS,
    CONVOLVES,
    JOINS,
    KEEPS,
    MEANS,
    MOVES,
    NORMALISES,
    POINTWISE,
    PRODUCTS,
    SAMPLES,
)
from mipp.graph.outputs import Outputs
from mipp.graph.products import count_operator
from mipp.graph.reasons import ONE_OF_ALL, Reason
from mipp.graph.record import Record, Uncovered
from mipp.graph.tracker import Place, Tracker
from mipp.hooked_mode import hooked
from mipp.inputs import tensors_in


def record_labels(
    model: nn.Module,
    runs: Sequence[Callable[[], Any]],
    norm_after: Mapping[str, str],
    across: Container[str] = (),
) -> Record:
    """What calls of the model do with channels, and the first of them with layers' outputs.

    Parameters
    ----------
    runs : a forward pass of the model, and other calls of it.
    norm_after : layer -> the batch-norm that reads its output.
    across : layers in groups of which a unit is index j of every group; see `mipp.graph.across`.
    """
    tracker = Tracker(model, norm_after, across)
    record = tracker.record
    first = record.outputs, record.macs, record.multiplied  # no other call counts there
    for run in runs:
        with _scopes(tracker), torch.no_grad():
            with _Functions(tracker), _Operators(tracker):
                output = run()
            for tensor in tensors_in(output):
                reason = Reason("output", "feeds the network's output")
                record.fix(tracker.labels_of(tensor), reason)
                if id(tensor) in tracker.statistics:
                    _, labels = tracker.statistics[id(tensor)]
                    value = Reason("output", "one value of all of its channels is an output")
                    record.fix(labels, value)
            record.outputs.spoil(tensors_in(output))
        first[0].spoil_as(record.outputs)
        record.outputs, record.macs, record.multiplied = Outputs(), {}, []
    record.outputs, record.macs, record.multiplied = first
    return tracker.record


@contextmanager
def _scopes(tracker: Tracker) -> Iterator[None]:
    """The tracker knows which module is running, and follows some of them as a whole."""

    def enter(place: Place, module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> None:
        tracker.scope.append(place)
        tracker.arguments.append(args)
        tracker.wholes += place.whole

    def leave(place: Place, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        tracker.wholes -= place.whole
        read = tensors_in((args, kwargs))
        if place.whole and not tracker.wholes and read:
            with tracker.at_rules():
                module_rules.follow_layer(tracker, place, read[0], output)
                tracker.record.outputs.follow(None, args, kwargs, output)
        if place.source:
            tracker.record.outputs.put(place.source, output)
        tracker.scope.pop()
        tracker.arguments.pop()

    def following() -> Iterator[Any]:
        for place in tracker.places.values():
            module = place.module
            yield module.register_forward_pre_hook(partial(enter, place), with_kwargs=True)
            yield module.register_forward_hook(partial(leave, place), with_kwargs=True)

    with hooked(following()):
        yield


class _Functions(TorchFunctionMode):
    """Sees functions of torch that do a layer's work, of whatever operators they are made."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.tracker = tracker

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tracker, kwargs = self.tracker, kwargs or {}
        if read_sizes.reads_size(function) and not tracker.wholes:
            size = function(*args, **kwargs)
            with tracker.at_rules():
                return read_sizes.read(tracker, size, *args[:2], **kwargs)
        name, operands = getattr(function, "__name__", ""), tensors_in((args, kwargs))
        wraps = name == "pad" and "circular" in (*args, *kwargs.values())
        if tracker.wholes or not (wraps or tracker.worker(name, operands) is not None):
            output = function(*args, **kwargs)
            if name in read_sizes.LAYS_OUT and not tracker.wholes:
                with tracker.at_rules():
                    read_sizes.follow_layout(tracker, name, args, kwargs, output)
            return output
        tracker.wholes += 1
        output = function(*args, **kwargs)
        tracker.wholes -= 1
        with tracker.at_rules():
            if wraps:
                operation_rules.wrap(tracker, function, args, kwargs, output)
            elif not module_rules.follow_operator(tracker, name, operands, output):
                tracker.fix(operands, output, tracker.unknown(name))
            tracker.record.outputs.follow(function, args, kwargs, output)
        return output


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator, and applies the rule for it."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = tracker

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self.tracker.ruling:
            return output
        count_operator(self.tracker, func, args, kwargs, output)
        name = func.overloadpacket.__name__
        name = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        if name in MEANS:
            self.tracker.count()
        self.tracker.hand_on_owner(name, args, output)
        if not self.tracker.wholes:
            operands = tensors_in((args, kwargs))
            self.tracker.record.outputs.follow(func, args, kwargs, output)
            try:
                if not module_rules.follow_operator(self.tracker, name, operands, output):
                    self._follow_operation(name, func, args, kwargs, output)
            except Uncovered:
                self.tracker.fix(operands, output, self.tracker.unknown(name))
        return output

    def _follow_operation(self, name: str, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        tracker, operands = self.tracker, tensors_in((args, kwargs))
        if not any(tracker.labels_of(t) is not None for t in operands):
            for tensor in tensors_in(output):
                tracker.put(tensor, None)
        elif name in MOVES:
            operation_rules.move(tracker, func, args, kwargs, output)
        elif name in JOINS or name == "constant_pad_nd":
            operation_rules.join(tracker, name, func, args, kwargs, output)
        elif name in KEEPS:
            operation_rules.keep(tracker, args, output)
        elif name in MEANS and operation_rules.reduce(tracker, name, args, kwargs, output):
            pass
        elif name in BATCH_NORMS:
            operation_rules.scale_each(tracker, args, output)
        elif name in AXES_OF:
            operation_rules.pool(tracker, args, output, AXES_OF[name])
        elif name in SAMPLES:
            operation_rules.sample(tracker, operands, output, name)
        elif name in write_rules.WRITES:
            write_rules.write(tracker, name, args, output)
        elif name in ("im2col", "col2im"):
            operation_rules.fold(tracker, args[0], output)
        elif name == "glu":
            operation_rules.halve(tracker, *args, **kwargs, output=output)
        elif name in NORMALISES and operation_rules.scale(tracker, args[0], args[1], output):
            return
        elif name in CONVOLVES and product_rules.convolve(tracker, *args, output=output):
            pass
        elif name in PRODUCTS:
            product_rules.multiply(tracker, args, PRODUCTS[name], output)
        elif name.startswith(ATTENTION):
            product_rules.attend(tracker, args, kwargs, output)
        elif name in POINTWISE or _pointwise(name):
            operation_rules.combine(tracker, operands, output)
        else:
            known = name in MEANS or name in NORMALISES or "norm" in name
            mixed = Reason("mixed", f"{tracker.where(name)} {ONE_OF_ALL}")
            tracker.fix(operands, output, mixed if known else tracker.unknown(name))


def _pointwise(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )
