"""NaN and infinity, found where they come from and named: weights, then inputs, then layers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mipp.errors import ActivationError, DataError, ModelError
from mipp.evaluation import evaluating
from mipp.hooked_mode import hooked
from mipp.inputs import Inputs, call, tensors_in, tensors_of
from mipp.layers import layer_of


def require_finite_weights(model: nn.Module) -> None:
    """Refuse parameters and buffers that are no numbers.

    Of a buffer that is no layer's, minus infinity is allowed: a mask of attention holds it.

    Raises
    ------
    ModelError : names the module, the tensor and how many of its values are NaN or infinite, or
        one that has no values yet.
    """
    for key, value in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(value) or value.is_meta:
            got = (
                "a lazy one; run the network on a batch first"
                if is_lazy(value)
                else "one on device meta; load weights to another device first"
            )
            raise ModelError(
                f"model {type(model).__name__} cannot be pruned: {key} has no values yet.\n"
                f"Expected weights that are there, got {got}."
            )
    faulty = list(_faulty_tensors(model))
    if faulty:
        module, tensor, wrong, values = faulty[0]
        others = f" and {len(faulty) - 1} more tensors" if faulty[1:] else ""
        raise ModelError(
            f"model {type(model).__name__} cannot be pruned: {tensor} of module "
            f"{module!r}{others} holds NaN or infinity.\nExpected finite numbers, got "
            f"{wrong} others in {values} values; load sound weights, or train again with a "
            "smaller learning rate: training has diverged."
        )


def require_finite_inputs(inputs: Inputs, batch: int) -> None:
    """Refuse a batch with numbers that are none.

    Raises
    ------
    DataError : names the batch and how many of its values are NaN or infinite.
    """
    for tensor in filter(torch.is_floating_point, tensors_of(inputs)):
        if wrong := _wrong(tensor):
            raise DataError(
                f"calibration cannot be used: batch {batch} holds NaN or infinity.\nExpected "
                f"finite numbers, got {wrong} others in {tensor.numel()} values; mend the data, "
                "or how they are normalised."
            )


def require_finite_activations(model: nn.Module, inputs: Inputs) -> None:
    """Refuse a network that turns finite inputs into NaN or infinity.

    Raises
    ------
    ActivationError : names the first layer that does, or the network itself.
    """

    def look(where: str, module: nn.Module, args: Any, output: Any) -> None:
        for tensor in filter(torch.is_floating_point, tensors_in(output)):
            if wrong := _wrong(tensor):
                raise ActivationError(
                    f"activations cannot be used: {where} ({type(module).__name__}) is the first "
                    "whose output holds NaN or infinity.\nExpected finite numbers, got "
                    f"{wrong} others in {tensor.numel()} values in {tensor.dtype}; check the "
                    "scale of the weights and of the inputs, or convert both to a type that "
                    f"holds larger numbers, such as {_wider(tensor.dtype)}."
                )

    looking = (
        module.register_forward_hook(partial(look, f"layer {name!r}" if name else "forward"))
        for name, module in model.named_modules()
        if layer_of(module) or not name
    )
    with hooked(looking), evaluating(model), torch.no_grad():
        call(model, inputs)


def _faulty_tensors(model: nn.Module) -> Iterator[tuple[str, str, int, int]]:
    for name, module in model.named_modules():
        masks = layer_of(module) is None
        for key, tensor in module.named_parameters(recurse=False):
            if tensor.is_floating_point() and (wrong := _wrong(tensor)):
                yield name, key, wrong, tensor.numel()
        for key, tensor in module.named_buffers(recurse=False):
            if tensor.is_floating_point():
                held = tensor.masked_fill(tensor == -torch.inf, 0.0) if masks else tensor
                if wrong := _wrong(held):
                    yield name, key, wrong, tensor.numel()


def _wider(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float32 else torch.float32


def _wrong(tensor: Tensor) -> int:
    """How many values are NaN or infinite; the sum alone tells mostly that none is."""
    if bool(tensor.sum().isfinite()):
        return 0
    return int((~tensor.isfinite()).sum())
