"""What a program is called with, and whether it answers what the network answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mipp.device import dtype_of
from mipp.errors import ExportError, MippError, option, reason_of
from mipp.inputs import Inputs, Shape, call, count, each, shape_of, tensors_in, zeros

TRACED = 2  # inputs: of a single one torch.export takes the batch size for a constant
OTHERS = (1, 3)  # further batch sizes that a program is compared at
Answers = Mapping[int, tuple[Inputs, list[Tensor]]]


def answer_plainly(network: nn.Module) -> None:
    """Let forward return tensors in tuples, lists and dicts, which a reader of a program knows.

    A data class of outputs, such as those of Hugging Face, becomes a dict of what is in it.
    """
    forward = network.forward

    @functools.wraps(forward)  # an exporter reads its signature
    def plain(*args: Any, **kwargs: Any) -> Any:
        return _plain(forward(*args, **kwargs), network)

    network.forward = plain


def _plain(outputs: Any, network: nn.Module) -> Any:
    if isinstance(outputs, Tensor):
        return outputs
    if is_dataclass(outputs) and not isinstance(outputs, (type, Mapping)):
        outputs = {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    if isinstance(outputs, Mapping):
        return {k: _plain(part, network) for k, part in outputs.items() if part is not None}
    if isinstance(outputs, (tuple, list)):
        parts = [_plain(part, network) for part in outputs if part is not None]
        return parts if isinstance(outputs, list) else tuple(parts)
    raise ExportError(
        f"network {type(network).__name__} cannot be exported.\nExpected a tensor, or tuples, "
        f"lists, dicts and data classes of tensors, from forward, got {type(outputs).__name__}; "
        "wrap the network in a module that returns its tensors."
    )


def network_answers(network: nn.Module, inputs: Inputs | Shape) -> Answers:
    """Batch size -> inputs of that size and the network's outputs.

    Raises
    ------
    ExportError : the network does not take them, or answers with something else than tensors.
    """
    answers = {}
    for size in (TRACED, *OTHERS):
        batch = _batch(inputs, size, network)
        try:
            with torch.no_grad():
                outputs = call(network, batch)
        except ExportError:
            raise
        except MippError as error:  # the network's own code
            what = f"does not take {size} inputs of shape {shape_of(batch)}"
            raise refused(network, what, error) from error
        answers[size] = (batch, tensors_in(outputs))
    return answers


def _batch(inputs: Inputs | Shape, size: int, network: nn.Module) -> Inputs:
    """Examples in turn; of a shape random numbers, zeros where they are not real."""
    if _are_tensors(inputs):
        rows = torch.arange(size, device="cpu") % count(inputs)
        return each(inputs, lambda tensor: tensor.detach().cpu()[rows])
    generator = torch.Generator().manual_seed(0)

    def draw(one: Tensor) -> Tensor:
        if not one.is_floating_point():
            return one.expand(size, *one.shape[1:]).clone()
        return torch.randn(size, *one.shape[1:], generator=generator, device="cpu").to(one.dtype)

    return each(zeros(inputs, dtype=dtype_of(network)), draw)


def _are_tensors(inputs: Inputs | Shape) -> bool:
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs
    return isinstance(inputs, Tensor) or any(isinstance(part, Tensor) for part in parts)


def compare(
    model: nn.Module,
    kind: str,
    run: Callable[[Inputs], Any],
    inputs: Inputs,
    expected: Sequence[Tensor],
) -> None:
    """Refuse a program whose outputs are not the network's.

    Raises
    ------
    ExportError : says the batch size, and what was expected and found.
    """
    where = f"program {kind!r} of network {type(model).__name__}, batch size {count(inputs)}"
    try:
        found = tensors_in(run(inputs))
    except Exception as error:  # of torch's guards or of onnxruntime
        raise ExportError(
            f"{where}: it does not run.\nExpected the network's outputs, got {reason_of(error)}; "
            f"leave this kind out of {option('kinds')}."
        ) from error
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (expected, found)]
    if shapes[0] != shapes[1]:
        raise ExportError(
            f"{where}: its outputs have other shapes.\nExpected {shapes[0]}, got {shapes[1]}; "
            "forward may be random or remember its calls."
        )
    for want, got in zip(expected, found, strict=True):
        exact = not want.is_floating_point()
        scale = float(want.double().abs().max()) if want.numel() else 0.0
        allowed = 0.0 if exact else torch.finfo(want.dtype).eps ** 0.5 * scale
        off = float((want.double() - got.double()).abs().max()) if want.numel() else 0.0
        if not off <= allowed:  # neither is NaN
            raise ExportError(
                f"{where}: its outputs differ from the network's.\nExpected at most {allowed:.2g} "
                f"(largest output {scale:.2g}), got {off:.2g}; forward may be random, depend on "
                "the batch size or give values that are not finite."
            )


def refused(model: nn.Module, what: str, error: Exception) -> ExportError:
    """The error for a network whose own code fails."""
    return ExportError(
        f"network {type(model).__name__} {what}.\nExpected the code of forward to run on any "
        f"input, got {reason_of(error)}\nMend forward, or leave the export out "
        f"({option('kinds')})."
    )
