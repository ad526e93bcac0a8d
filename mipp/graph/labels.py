"""Follows every channel through a forward pass: each activation carries a label per element.

A label names the feature that an element came from: an output of a conv or linear layer, or an
element of a bare parameter. Operations that only move elements move their labels; element-wise
ones couple the labels that meet; conv and linear layers read the labels of their input and make
new ones. What mixes labels in any other way fixes them: those channels stay whole. Works below
`nn.Module`, so that functional calls, concatenations and views need no support of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mipp.graph import module_rules, operation_rules
from mipp.graph.operations import (
    BATCH_NORMS,
    JOINS,
    KEEPS,
    LAYER_NORM_KERNELS,
    MEANS,
    MOVES,
    NORMALISES,
    POINTWISE,
    POOLED_AXES,
)
from mipp.graph.record import Record
from mipp.graph.tracker import Tracker
from mipp.inputs import tensors_in


def record_labels(model: nn.Module, run: Any) -> Record:
    """What `run()`, a forward pass of the model, does with channels."""
    tracker = Tracker(model)
    with _scopes(model, tracker), torch.no_grad():
        with _Follower(tracker):
            output = run()
        for tensor in tensors_in(output):
            tracker.record.fix(tracker.labels_of(tensor), "feeds the network's output")
    return tracker.record


@contextmanager
def _scopes(model: nn.Module, tracker: Tracker) -> Iterator[None]:
    """The tracker knows which module is running."""

    def enter(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            tracker.scope.append((name, module))
            tracker.alike.append(
                len(arguments) > 2 and arguments[0] is arguments[1] is arguments[2]
            )

        return hook

    def leave(module: nn.Module, arguments: Any, output: Any) -> None:
        tracker.scope.pop()
        tracker.alike.pop()

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation, and applies the rule for it."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = tracker

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        name = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        self.tracker.hand_on_owner(name, args, output)
        try:
            self._follow(name, func, args, kwargs, output)
        except (RuntimeError, TypeError, IndexError, ValueError, AssertionError):
            # an overload that its rule does not cover: like any unknown operation, it mixes
            self.tracker.fix(tensors_in((args, kwargs)), output, name)
        return output

    def _follow(self, name: str, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        if not self._follow_module(name, args, output):
            self._follow_operation(name, func, args, kwargs, output)

    def _follow_module(self, name: str, args: Any, output: Any) -> bool:
        """Whether the operation is the work of a module that the rules know."""
        if name == "convolution" or name.endswith("_convolution"):
            module_rules.convolve(self.tracker, args, output)
        elif name in ("addmm", "mm", "linear"):
            return module_rules.multiply(self.tracker, name, args, output)
        elif name in BATCH_NORMS:
            module_rules.batch_normalise(self.tracker, args, output)
        elif name in LAYER_NORM_KERNELS:
            module_rules.layer_normalise(self.tracker, name, args, output)
        elif name == "mean" and len(args) > 1:
            return module_rules.mean_square(self.tracker, args, output)
        else:
            return False
        return True

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
        elif name in MEANS and operation_rules.reduce(tracker, args, kwargs, output):
            pass
        elif name in POOLED_AXES:
            operation_rules.pool(tracker, args[0], output, POOLED_AXES[name])
        elif name in NORMALISES and tracker.is_constant(args[0], args[1]):
            tracker.put(output, tracker.labels_of(args[0]))
        elif name in POINTWISE or _pointwise(name):
            operation_rules.combine(tracker, operands, output)
        else:
            tracker.fix(operands, output, name)


def _pointwise(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )
