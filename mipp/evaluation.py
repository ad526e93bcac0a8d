"""Running a network in eval mode without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mipp.layers.attention import opened_attention


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode within the block; afterwards each module has its own mode back.

    Modes are kept per module: a frozen batch norm may be in eval mode inside a training model.
    Attention calls its output projection as a module, so that it can be watched.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with opened_attention(model):
            yield
    finally:
        for module in training:
            module.training = True
