"""What a network is called with: one tensor, a tuple of tensors, or tensors by keyword."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mipp.errors import ConfigError, MippError, ModelError, option, reason_of

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
Call = str | Callable[[nn.Module, Inputs], Any]  # a method's name, or what calls a network
Shape = Any  # of one input: (c, h, w), a tuple of such or a mapping to such, as the inputs are

FOLLOW = ("mipp.graph.", "mipp.layers.", "mipp.activations.", "mipp.refit.")  # code beside forward
RUNS = ("forward", "__torch_function__", "__torch_dispatch__")  # there, what forward asks for


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """The model's outputs; a tuple's tensors are its arguments, a mapping's its keywords.

    Raises
    ------
    ModelError : forward raises, which is the cause.
    """
    try:
        with beside(inputs):
            if isinstance(inputs, Tensor):
                return model(inputs)
            return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)
    except (MippError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of the network's own code
        if _is_of_mipp(error):
            raise
        name = type(getattr(model, "__self__", model)).__name__
        given = " and ".join(str(tuple(tensor.shape)) for tensor in tensors_of(inputs))
        raise ModelError(
            f"model {name} does not run on an input of shape {given}: {type(error).__name__}: "
            f"{error}.\nExpected inputs that its forward takes; give such, or "
            "mend forward, which fails so without mipp too, in a copy.deepcopy of the network at "
            "least."
        ) from error


def beside(inputs: Inputs) -> AbstractContextManager[Any]:
    """A context in which forward makes tensors beside its inputs, if torch has a default device."""
    given, default = tensors_of(inputs), torch.get_default_device()
    if not given or default.type == "cpu" or default == given[0].device:
        return nullcontext()
    return given[0].device


def _is_of_mipp(error: Exception) -> bool:
    """Whether code that follows forward failed, not forward or what it calls."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.f_globals.get("__name__", "").startswith("mipp.")]
    deepest = ours[-1]
    return deepest.f_globals["__name__"].startswith(FOLLOW) and deepest.f_code.co_name not in RUNS


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
    """Shape of one input, without the batch axis; after its type, such as int64, if not real."""
    if isinstance(inputs, Tensor):
        kind = () if inputs.is_floating_point() else (str(inputs.dtype).removeprefix("torch."),)
        return (*kind, *inputs.shape[1:])
    if isinstance(inputs, Mapping):
        return {name: shape_of(tensor) for name, tensor in inputs.items()}
    return tuple(map(shape_of, inputs))


def zeros(shape: Shape, **options: Any) -> Inputs:
    """One input of zeros.

    Parameters
    ----------
    shape : as `shape_of` gives it.
    options : of `torch.zeros`; the type is that of what is real.
    """
    if isinstance(shape, Mapping):
        return {name: _zero(part, **options) for name, part in shape.items()}
    if any(isinstance(part, (tuple, list)) for part in shape):
        return tuple(_zero(part, **options) for part in shape)
    return _zero(shape, **options)


def _zero(shape: Sequence[Any], **options: Any) -> Tensor:
    if shape and isinstance(shape[0], str):
        shape, options = shape[1:], options | {"dtype": getattr(torch, shape[0])}
    return torch.zeros(1, *shape, **({"device": "cpu"} | options))


def filled(shape: Shape, batch: int, value: float, **options: Any) -> Inputs:
    """A batch of inputs that all hold one value, zero if not real; parameters as for `zeros`.

    Raises
    ------
    ConfigError : there is no memory for so many.
    """

    def fill(one: Tensor) -> Tensor:
        content = value if one.is_floating_point() else 0
        return one.new_full((batch, *one.shape[1:]), content)

    try:
        return each(zeros(shape, **options), fill)
    except RuntimeError as error:  # torch has a class of its own on GPUs alone
        raise ConfigError(
            f"{option('latency_batch')}: {batch} inputs of shape {shape} do not fit into memory.\n"
            f"Expected a batch that does, got {reason_of(error)}; lower it."
        ) from error


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested sequences, mappings and data classes."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in fields(value)]
    elif not isinstance(value, (list, tuple)):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]
