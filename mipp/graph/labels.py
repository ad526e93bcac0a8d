"""Follows every channel through a forward pass: each activation carries a label per element.

A label names the feature that an element came from: an output of a conv or linear layer, or an
element of a bare parameter. Operations that only move elements move their labels; element-wise
ones couple the labels that meet; conv and linear layers read the labels of their input and make
new ones. What mixes labels in any other way fixes them: those channels stay whole. Works below
`nn.Module`, so that functional calls, concatenations and views need no support of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mipp.graph.kinds import CONVS, NORMS, TRANSPOSED
from mipp.graph.operations import (
    BATCH_NORMS,
    JOINS,
    KEEPS,
    MEANS,
    MOVES,
    NORMALISES,
    POINTWISE,
    POOLED_AXES,
    VIEWS,
)
from mipp.graph.record import NONE, Labels, Record, Touch
from mipp.models.resnet_cifar import PaddedShortcut


def record_labels(model: nn.Module, run: Any) -> Record:
    """What `run()`, a forward pass of the model, does with channels."""
    follower = _Follower(model)
    with _scopes(model, follower), torch.no_grad():
        with follower:
            output = run()
        for tensor in _tensors(output):
            follower.record.fix(follower.labels_of(tensor), "feeds the network's output")
    return follower.record


@contextmanager
def _scopes(model: nn.Module, follower: _Follower) -> Iterator[None]:
    """The follower knows which module is running."""

    def enter(name: str) -> Any:
        return lambda module, arguments: follower.scope.append((name, module))

    def leave(module: nn.Module, arguments: Any, output: Any) -> None:
        follower.scope.pop()

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
    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = Record()
        self.scope: list[tuple[str, nn.Module]] = []
        self._labels: dict[int, tuple[Tensor, Labels]] = {}  # the tensor is kept alive
        self._owners: dict[int, tuple[str, nn.Module, Tensor]] = {}
        self._bare: dict[int, tuple[str, Tensor]] = {}
        for name, module in model.named_modules():
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                self._owners.setdefault(id(tensor), (name, module, tensor))
            if isinstance(module, (*CONVS, *TRANSPOSED, *NORMS, nn.Linear, nn.MultiheadAttention)):
                continue
            for key, parameter in module.named_parameters(recurse=False):
                self._bare[id(parameter)] = (f"{name}.{key}" if name else key, parameter)

    def labels_of(self, tensor: Any) -> Labels | None:
        if not isinstance(tensor, Tensor):
            return None
        found = self._labels.get(id(tensor))
        if found is not None:
            return found[1]
        if id(tensor) in self._bare:
            name, _ = self._bare[id(tensor)]
            labels = self.record.fresh(tensor.shape)
            self.record.parameters[name] = labels
            self._put(tensor, labels)
            return labels
        return None

    def _put(self, tensor: Any, labels: Labels | None) -> None:
        if isinstance(tensor, Tensor):
            if labels is None:
                self._labels.pop(id(tensor), None)
            else:
                assert labels.shape == tensor.shape, (labels.shape, tensor.shape)
                self._labels[id(tensor)] = (tensor, labels)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        name = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        self._hand_on_owner(name, args, output)
        try:
            self._follow(name, func, args, kwargs, output)
        except (RuntimeError, TypeError, IndexError, ValueError, AssertionError):
            # an overload that its rule does not cover: like any unknown operation, it mixes
            self._fix(_tensors((args, kwargs)), output, name)
        return output

    def _hand_on_owner(self, name: str, args: tuple[Any, ...], output: Any) -> None:
        """A view or a copy of a weight is still that weight."""
        passed = name in ("t", "_to_copy", "detach", "alias", "transpose", "clone")
        if passed and args and isinstance(output, Tensor):
            owner = self._owners.get(id(args[0]))
            if owner is not None:
                self._owners[id(output)] = (owner[0], owner[1], output)

    def _follow(self, name: str, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        if name == "convolution" or name.endswith("_convolution"):
            self._convolve(args, output)
        elif name in ("addmm", "mm", "linear") and self._multiply(name, args, output):
            pass
        elif name in BATCH_NORMS:
            self._normalise(args, output)
        elif not any(self.labels_of(t) is not None for t in _tensors((args, kwargs))):
            for tensor in _tensors(output):
                self._put(tensor, None)
        elif name in MOVES:
            self._move(func, args, kwargs, output)
        elif name in JOINS or name == "constant_pad_nd":
            self._join(name, func, args, kwargs, output)
        elif name in KEEPS:
            for tensor in _tensors(output):
                same = tensor.shape == args[0].shape
                self._put(tensor, self.labels_of(args[0]) if same else None)
        elif name in MEANS and self._reduce(args, kwargs, output):
            pass
        elif name in POOLED_AXES:
            self._pool(args[0], output, POOLED_AXES[name])
        elif name in NORMALISES and self._is_constant(args[0], args[1]):
            self._put(output, self.labels_of(args[0]))
        elif name in POINTWISE or _pointwise(name):
            self._combine(_tensors((args, kwargs)), output)
        else:
            self._fix(_tensors((args, kwargs)), output, name)

    # What the modules do

    def _convolve(self, args: Any, output: Tensor) -> None:
        x, weight = args[0], args[1]
        transposed, groups = args[6], args[8]
        name, module = self._owner(weight)
        known = isinstance(module, (*CONVS, PaddedShortcut)) and not transposed
        read = self._channels(x, 1)
        if not known or x.ndim != weight.ndim or self.labels_of(weight) is not None:
            self.record.fix(self.labels_of(x), f"{name} ({type(module).__name__}) reads it")
            self._make(name, output, 1, f"{name} ({type(module).__name__}) makes it")
        elif groups == 1:
            self._consume(name, x, read)
            self._make(name, output, 1, "")
        elif read is None or bool((read < 0).any()):
            reason = f"{name} is a grouped convolution"
            self.record.fix(self.labels_of(x), reason)
            self._make(name, output, 1, reason)
        else:
            made = self.record.fresh([output.shape[1]])
            first = read.view(groups, -1)[:, :1]
            for labels in (read.view(groups, -1), made.view(groups, -1)):
                self.record.couple(labels, first.expand(labels.shape))
            self.record.passengers.append(Touch(name, made.numpy()))
            self._put(output, _along(made, 1, output))

    def _multiply(self, name: str, args: Any, output: Tensor) -> bool:
        x, weight = (args[1], args[2]) if name == "addmm" else (args[0], args[1])
        owner, module = self._owner(weight)
        if not isinstance(module, (nn.Linear, nn.MultiheadAttention)) or weight.ndim != 2:
            return False
        if isinstance(module, nn.MultiheadAttention):
            self.record.fix(self.labels_of(x), f"{owner} (MultiheadAttention) reads it")
            self._put(output, None)
            return True
        self._consume(owner, x, self._channels(x, x.ndim - 1))
        self._make(owner, output, output.ndim - 1, "")
        return True

    def _owner(self, weight: Tensor) -> tuple[str, nn.Module | None]:
        found = self._owners.get(id(weight))
        if found is not None:
            return found[0], found[1]
        return (self.scope[-1][0], self.scope[-1][1]) if self.scope else ("the network", None)

    def _consume(self, name: str, x: Tensor, read: Labels | None) -> None:
        if self.labels_of(x) is None:
            return
        if read is None:
            self.record.fix(self.labels_of(x), f"{name} reads it in another order")
        else:
            self.record.consumers.append(Touch(name, read.numpy()))

    def _make(self, name: str, output: Tensor, axis: int, reason: str) -> None:
        made = self.record.fresh([output.shape[axis]])
        self.record.producers.append(Touch(name, made.numpy()))
        if reason:
            self.record.fix(made, reason)
        self._put(output, _along(made, axis, output))

    def _normalise(self, args: Any, output: Any) -> None:
        x, first = args[0], _tensors(output)[0]
        owner = next((self._owners[id(t)] for t in args[1:5] if id(t) in self._owners), None)
        read = self._channels(x, 1)
        if self.labels_of(x) is None:
            self._put(first, None)
        elif read is None or owner is None or not isinstance(owner[1], NORMS):
            self._fix([x], output, "normalisation")
        else:
            self.record.passengers.append(Touch(owner[0], read.numpy()))
            self._put(first, self.labels_of(x))

    # What the operations do

    def _move(self, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        if any(self.labels_of(t) is not None for t in _tensors((args[1:], kwargs))):
            self._fix(_tensors((args, kwargs)), output, func.overloadpacket.__name__)
            return
        labels = self.labels_of(args[0])
        assert labels is not None
        if func.overloadpacket.__name__ == "as_strided":
            self._fix([args[0]], output, "as_strided")
            return
        kwargs = {k: v for k, v in kwargs.items() if k not in ("dtype", "device", "layout")}
        name = func.overloadpacket.__name__
        moved = func(labels.contiguous(), *_on_cpu(args[1:]), **_on_cpu(kwargs))
        if name in VIEWS and _axes(moved) > _axes(labels):  # its sizes may not follow a cut
            self.record.fix(labels, f"{self._where(name)} splits its channels")
        for tensor, label in zip(_tensors(output), _tensors(moved), strict=True):
            self._put(tensor, label.reshape(tensor.shape))

    def _join(self, name: str, func: Any, args: Any, kwargs: Any, output: Tensor) -> None:
        if name == "constant_pad_nd":
            labels = self.labels_of(args[0])
            self._put(output, func(labels, args[1], NONE))
            return
        parts = [self._labelled(tensor) for tensor in args[0]]
        self._put(output, func(parts, *args[1:], **kwargs))

    def _labelled(self, tensor: Tensor) -> Labels:
        labels = self.labels_of(tensor)
        return torch.full(tensor.shape, NONE) if labels is None else labels

    def _reduce(self, args: Any, kwargs: Any, output: Any) -> bool:
        dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if isinstance(dims, (float, Tensor)):
            return False
        if len(args) > 2 and isinstance(args[2], (list, tuple)):  # norm(x, p, dims)
            dims = args[2]
        x = args[0]
        dims = range(x.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
        dims = [d % x.ndim for d in dims] or list(range(x.ndim))
        labels = self.labels_of(x)
        if labels is None or not all(self._is_constant(x, d) for d in dims):
            return False
        for d in dims:
            labels = labels.narrow(d, 0, 1)
        for tensor in _tensors(output):
            self._put(tensor, labels.reshape(tensor.shape))
        return True

    def _pool(self, x: Tensor, output: Any, axes: int) -> None:
        if not all(self._is_constant(x, -axis) for axis in range(1, axes + 1)):
            self._fix([x], output, "pooling")
            return
        labels = self._labelled(x)
        for axis in range(1, axes + 1):
            labels = labels.narrow(-axis, 0, 1)
        self._put(_tensors(output)[0], labels.expand(_tensors(output)[0].shape))

    def _is_constant(self, x: Tensor, axis: int) -> bool:
        labels = self.labels_of(x)
        return labels is None or _constant(labels, axis)

    def _combine(self, operands: list[Tensor], output: Any) -> None:
        shape = _tensors(output)[0].shape
        rank = len(shape)
        sides = []
        for tensor in operands:
            if self._is_bias(tensor):
                continue
            labels = self._labelled(tensor)
            if tensor.numel() > 1 or self.labels_of(tensor) is not None:
                sides.append(labels.reshape((1,) * (rank - labels.ndim) + labels.shape))
        varying = [
            {a for a in range(rank) if s.shape[a] > 1 and not _constant(s, a)} for s in sides
        ]
        every = set().union(*varying)
        where = self._where()
        result = torch.full(shape, NONE)
        met = []
        for side in sides:
            if any(side.shape[axis] == 1 for axis in every):  # one value for many channels
                self.record.fix(side, f"{where} spreads it over other channels")
                continue
            whole = side.expand(shape)
            self.record.couple(result, whole)
            result = torch.where(result >= 0, result, whole)
            met.append(whole)
        for whole in met:
            lost = (whole < 0) & (result >= 0)
            self.record.fix(result[lost], f"{where} joins it with what cannot be cut")
        for tensor in _tensors(output):
            self._put(tensor, result if bool((result >= 0).any()) else None)

    def _is_bias(self, tensor: Tensor) -> bool:
        """Some linear layers add theirs apart; it is cut with the layer."""
        owner = self._owners.get(id(tensor))
        return (
            owner is not None
            and getattr(owner[1], "bias", None) is tensor
            and (isinstance(owner[1], nn.Linear))
        )

    def _fix(self, operands: list[Tensor], output: Any, what: str) -> None:
        for tensor in operands:
            self.record.fix(self.labels_of(tensor), f"{self._where(what)} mixes its channels")
        for tensor in _tensors(output):
            self._put(tensor, None)

    def _where(self, what: str = "") -> str:
        if not self.scope or not self.scope[-1][0]:
            return f"{what or 'an operation'} in forward"
        name, module = self.scope[-1]
        leaf = not any(True for _ in module.children())
        kind = type(module).__name__
        return f"{name} ({kind})" if leaf or not what else f"{what} in {name} ({kind})"

    def _channels(self, x: Tensor, axis: int) -> Labels | None:
        """Label of each feature along an axis; None when it differs along another."""
        labels = self.labels_of(x)
        if labels is None:
            return None
        others = [a for a in range(x.ndim) if a != axis]
        if not all(_constant(labels, a) for a in others):
            return None
        for a in others:
            labels = labels.narrow(a, 0, 1)
        return labels.reshape(-1)


def _along(labels: Labels, axis: int, tensor: Tensor) -> Labels:
    shape = [1] * tensor.ndim
    shape[axis] = -1
    return labels.view(shape).expand(tensor.shape)


def _constant(labels: Labels, axis: int) -> bool:
    if labels.shape[axis] < 2 or labels.stride(axis) == 0:
        return True
    return bool((labels == labels.narrow(axis, 0, 1)).all())


def _on_cpu(value: Any) -> Any:
    """The same nested value with its tensors where labels are."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, (list, tuple)):
        return type(value)(_on_cpu(part) for part in value)
    if isinstance(value, dict):
        return {key: _on_cpu(part) for key, part in value.items()}
    return value


def _axes(labels: Labels) -> int:
    """Axes along which labels differ."""
    return sum(not _constant(labels, axis) for axis in range(labels.ndim))


def _pointwise(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested sequences and mappings."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for part in value.values() for t in _tensors(part)]
    if isinstance(value, (list, tuple)):
        return [t for part in value for t in _tensors(part)]
    return []
