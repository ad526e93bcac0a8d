"""Copies of networks, what in a network cannot be copied, and the network within a wrapper."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from mipp.errors import ModelError, reason_of

PARALLEL = ("DataParallel", "DistributedDataParallel")


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy without gradients, whatever its forward does to it.

    Tensors that were computed, such as a weight by torch's older weight norm, are detached in it.

    Raises
    ------
    ModelError : the network cannot be copied; names the module and the attribute.

    Example
    -------
    >>> layer = nn.Linear(3, 2)
    >>> copied = copy_of(layer)
    >>> copied is layer, copied.weight.equal(layer.weight)
    (False, True)
    """
    held = [value for module in model.modules() for value in vars(module).values()]
    computed = [value for value in held if isinstance(value, Tensor) and not value.is_leaf]
    try:
        copied = copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in computed})
    except Exception as error:  # of whatever the network holds
        raise ModelError(
            f"model {type(model).__name__} cannot be copied, and mipp leaves the one given as it "
            f"is.\nExpected modules that copy.deepcopy takes, got {_culprit(model)} with "
            f"{reason_of(error)}; keep it out of the network's attributes, or give its class "
            "__deepcopy__. A tensor that is no parameter is kept detached."
        ) from error
    for parameter in copied.parameters():
        parameter.grad = None
    return copied


def _culprit(model: nn.Module) -> str:
    """The first attribute that cannot be copied alone."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key == "_modules":
                continue
            try:
                copy.deepcopy(value)
            except Exception:  # told by its place
                return f"attribute {key!r} of {name or 'the model'} ({type(module).__name__})"
    return f"a {type(model).__name__}"


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what `torch.compile` or a parallel module made of it.

    Example
    -------
    >>> layer = nn.Linear(3, 2)
    >>> unwrapped(nn.DataParallel(layer)) is layer, unwrapped(layer) is layer
    (True, True)
    """
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    compiled, parallel = "_orig_mod", type(model).__name__ in PARALLEL
    inner = getattr(model, "module" if parallel else compiled, None)
    return inner if isinstance(inner, nn.Module) else None
