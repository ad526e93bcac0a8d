"""Modules that the graph knows by their side of a channel."""

from __future__ import annotations

from torch import nn

from mipp.layers.attention import has_fused_projection
from mipp.layers.padded_shortcut import PaddedShortcut
from mipp.layers.window_attention import is_window_attention

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TOKENWISE = (nn.Linear, nn.MultiheadAttention)  # whose features lie along the last axis
CONSUMERS = (nn.Conv2d, *TOKENWISE, PaddedShortcut)  # whose rows can be sampled
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LAYER_NORMS = (nn.LayerNorm, nn.RMSNorm)


def has_heads(module: nn.Module | None) -> bool:
    """Whether its heads may be a group that bears its name."""
    attention = isinstance(module, nn.MultiheadAttention) or is_window_attention(module)
    return attention or has_fused_projection(module)


def output_width(module: nn.Module | None) -> int | None:
    """Features that a module makes; None for one that makes no channels of its own."""
    if has_heads(module):
        return int(module.num_heads)  # type: ignore[arg-type, union-attr]
    width = getattr(module, "out_channels", getattr(module, "out_features", None))
    return None if width is None else int(width)
