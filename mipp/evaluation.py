"""Running a network in eval mode without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

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
    with _modes_kept(model):
        model.eval()
        with _opened(model), borrowed_called(model):
            yield


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
        with _modes_kept(model):
            model.train()


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def norms_with_statistics(model: nn.Module) -> list[Any]:
    """Batch-norms that take means and variances over batches, in the order of modules."""
    layers = filter(None, map(layer_of, model.modules()))
    known = [layer.module for layer in layers if layer.statistics is not None]
    return [norm for norm in known if hasattr(norm, "momentum")]


@contextmanager
def norms_training(norms: Sequence[Any], momentum: float | None) -> Iterator[None]:
    """Within the block, in `evaluating`, batch-norms normalise by their batch and take statistics.

    Parameters
    ----------
    momentum : of their running statistics; None for the mean of all batches.
    """
    before = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.training, norm.momentum = True, momentum
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            norm.momentum = own


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
    try:
        for module in model.modules():
            layer = layer_of(module) if "forward" not in module.__dict__ else None
            twin = layer.twin() if layer is not None else None
            if twin is not None:
                opened.append(module)
                module.forward = twin
        yield
    finally:
        for module in opened:
            module.__dict__.pop("forward", None)
