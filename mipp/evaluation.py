"""Running a network in eval mode without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn

from mipp.layers import layer_of
from mipp.layers.borrowed import CallsOfModules, may_borrow


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode within the block; afterwards each module has its own mode back.

    Modes are kept per module: a frozen batch norm may be in eval mode inside a training model.
    Attention calls its output projection as a module, so that it can be watched, and so does every
    forward that hands the weights of a linear layer to a function instead.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with _opened(model), borrowed_called(model):
            yield
    finally:
        for module, training in modes:
            module.training = training


def forget(model: nn.Module) -> None:
    """Let modules drop what they keep of earlier calls, such as a table of LeViT's, in place.

    They do where training begins, which changes their parameters: so does cutting them.

    >>> import torch
    >>> class Kept(nn.Module):
    ...     kept = {}
    ...     def train(self, mode=True):
    ...         if mode:
    ...             self.kept = {}
    ...         return super().train(mode)
    >>> module = Kept().eval()
    >>> module.kept = {"cpu": torch.zeros(3)}
    >>> forget(module)
    >>> module.kept, module.training
    ({}, False)
    """
    if any(isinstance(value, Tensor) for module in model.modules() for value in _kept(module)):
        modes = [(module, module.training) for module in model.modules()]
        model.train()
        for module, training in modes:
            module.training = training


def _kept(module: nn.Module) -> Iterator[object]:
    """What a module holds in attributes of its own that are no parameters, buffers or parts."""
    for name, value in vars(module).items():
        if not name.startswith("_"):
            yield from value.values() if isinstance(value, dict) else (value,)


def borrowed_called(model: nn.Module) -> AbstractContextManager[object]:
    """Within the block, in this thread, what borrows the weights of a linear layer calls it."""
    return CallsOfModules(model) if may_borrow(model) else nullcontext()


@contextmanager
def _opened(model: nn.Module) -> Iterator[None]:
    """Within the block, hooks run on the parts of every module that has a twin."""
    opened = []
    for module in model.modules():
        layer = layer_of(module) if "forward" not in module.__dict__ else None
        twin = layer.twin() if layer is not None else None
        if twin is not None:
            module.forward = twin
            opened.append(module)
    try:
        yield
    finally:
        for module in opened:
            del module.__dict__["forward"]
