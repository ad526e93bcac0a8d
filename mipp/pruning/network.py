"""The check of a network before any work: it is opened, or refused with what to do first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mipp.copies import unwrapped
from mipp.errors import ConfigError, ModelError, option
from mipp.inputs import Inputs, tensors_of

QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
FLOATING = ("FloatFunctional", "FXFloatFunctional")  # that lie there, for a later conversion


def opened(model: Any) -> nn.Module:
    """The network inside what `torch.compile` or a parallel module made of it.

    Raises
    ------
    ModelError : it is no module, or is scripted, quantised or masked.
    """
    if not isinstance(model, nn.Module):
        raise unfit(model, f"an instance of torch.nn.Module, got {described(model)}", "pass one")
    network = unwrapped(model)
    for name, module in network.named_modules():
        where = f"got {name or 'the model'} ({type(module).__name__})"
        if isinstance(module, torch.jit.ScriptModule):
            mend = "pass the module that was scripted, and script what is pruned"
            raise unfit(model, f"a module of Python code, {where} scripted or traced", mend)
        kind = type(module)
        if kind.__module__.startswith(QUANTISED) and kind.__name__ not in FLOATING:
            mend = "prune the network in floating point first, then quantise it"
            raise unfit(model, f"weights in floating point, {where} quantised", mend)
        buffers = dict(module.named_buffers(recurse=False))
        for key, _ in module.named_parameters(recurse=False):
            plain = key.removesuffix("_orig")
            if plain != key and f"{plain}_mask" in buffers:
                mend = f"call torch.nn.utils.prune.remove(module, {plain!r}) on it first"
                raise unfit(model, f"plain weights, {where} with a mask on its {plain}", mend)
    return network


def unfit(model: Any, expected: str, mend: str) -> ModelError:
    return ModelError(
        f"model {type(model).__name__} cannot be pruned as it is.\nExpected {expected}; {mend}."
    )


def require_calls(calls: object, loss: object) -> None:
    """Refuse more calls, or a loss, that nobody can call."""
    if loss is not None and not callable(loss):
        raise ConfigError(
            f"{option('loss')}: expected a function of (outputs, labels), got {loss!r}; pass for "
            "example torch.nn.MSELoss()."
        )
    listed = isinstance(calls, Iterable) and not isinstance(calls, str)
    if not listed or not all(isinstance(c, str) or callable(c) for c in calls):  # type: ignore[attr-defined]
        raise ConfigError(
            f"{option('calls')}: expected a sequence of names of methods, or of functions of "
            f"(model, inputs), got {calls!r}; write for example calls=['project']."
        )


def versions(model: nn.Module, x: Inputs) -> dict[str, tuple[int, int]]:
    """Input or parameter -> which tensor it is and how often it was written to."""
    inputs = {f"input {place}": tensor for place, tensor in enumerate(tensors_of(x))}
    tensors = inputs | dict(model.named_parameters())
    return {
        name: (id(tensor), -1 if tensor.is_inference() else tensor._version)
        for name, tensor in tensors.items()
    }


def require_unchanged(
    model: nn.Module, before: Mapping[str, object], after: Mapping[str, object]
) -> None:
    """Refuse a network that gives something else each time, since it writes to what it reads."""
    changed = [name for name in (*before, *after) if before.get(name) != after.get(name)]
    if changed:
        mend = "clone what it writes to, or leave that to training"
        expected = f"a forward that changes neither inputs nor parameters, got another {changed[0]}"
        raise unfit(model, f"{expected} after a call", mend)


def described(item: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(item, Tensor):
        return f"Tensor {tuple(item.shape)} {str(item.dtype).removeprefix('torch.')}"
    name = type(item).__name__
    if isinstance(item, Mapping):
        parts = [f"{key}: {described(part)}" for key, part in list(item.items())[:4]]
    elif isinstance(item, (list, tuple)):
        parts = [described(part) for part in item[:3]] + ["..."] * (len(item) > 3)
    elif isinstance(item, (str, int, float, bool)) or item is None:
        return f"{name} {item!r}"
    else:
        return f"{name} {tuple(item.shape)}" if hasattr(item, "shape") else name
    return f"{name} of {', '.join(parts) or 'nothing'}"
