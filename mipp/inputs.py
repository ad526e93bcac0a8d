"""What a network is called with: one tensor, a tuple of tensors, or tensors by keyword."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
Call = str | Callable[[nn.Module, Inputs], Any]  # a method's name, or what calls a network
Shape = Any  # of one input: (c, h, w), a tuple of such or a mapping to such, as the inputs are


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """The model's outputs; a tuple's tensors are its arguments, a mapping's its keywords."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """All tensors of some inputs, in order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)


def count(inputs: Inputs) -> int:
    """Size of the batch: the first axis of the first tensor."""
    return len(tensors_of(inputs)[0])


def each(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The same inputs with every tensor changed."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {name: change(tensor) for name, tensor in inputs.items()}
    return tuple(change(tensor) for tensor in inputs)


def joined(batches: Sequence[Inputs]) -> Inputs:
    """Several batches of inputs as one."""
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in batches if isinstance(part, Tensor)])
    columns = [torch.cat(parts) for parts in zip(*map(tensors_of, batches), strict=True)]
    return dict(zip(first, columns, strict=True)) if isinstance(first, Mapping) else tuple(columns)


def shape_of(inputs: Inputs) -> Shape:
    """Shape of one input, without the batch axis."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    if isinstance(inputs, Mapping):
        return {name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()}
    return tuple(tuple(tensor.shape[1:]) for tensor in inputs)


def zeros(shape: Shape, **options: Any) -> Inputs:
    """One input of zeros.

    Parameters
    ----------
    shape : as `shape_of` gives it.
    options : of `torch.zeros`.
    """
    if isinstance(shape, Mapping):
        return {name: torch.zeros(1, *part, **options) for name, part in shape.items()}
    if any(isinstance(part, Sequence) for part in shape):
        return tuple(torch.zeros(1, *part, **options) for part in shape)
    return torch.zeros(1, *shape, **options)


def filled(shape: Shape, batch: int, value: float, **options: Any) -> Inputs:
    """A batch of inputs that all hold one value; parameters as for `zeros`."""
    return each(zeros(shape, **options), lambda one: one.new_full((batch, *one.shape[1:]), value))


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested sequences and mappings."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]
