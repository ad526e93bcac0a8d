"""Modules of our own in place of torch's, which `torch.fx` is not to look into either."""

from __future__ import annotations

from torch import nn


def be_a_leaf(module: nn.Module) -> None:
    """Let `torch.fx.symbolic_trace` call a module, as it calls what torch brings along.

    It knows that by the name of a module's home, and would otherwise follow code that asks how many
    axes its inputs have, which no tracing can answer.

    >>> import torch
    >>> class Own(nn.Module):
    ...     def forward(self, x):
    ...         return x if x.ndim == 2 else x[None]
    >>> be_a_leaf(own := Own())
    >>> torch.fx.symbolic_trace(nn.Sequential(own))(torch.ones(1, 2)).shape
    torch.Size([1, 2])
    """
    module.__module__ = nn.Module.__module__
