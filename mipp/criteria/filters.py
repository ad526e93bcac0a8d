"""The weights that make a layer's outputs."""

from __future__ import annotations

from torch import Tensor, nn


def filters_of(module: nn.Module) -> Tensor | None:
    """Weights (out features, in features * kernel) of a producer, None for one without.

    An attention's are those of its projection to query, key and value.
    """
    if isinstance(module, nn.MultiheadAttention):
        return module.in_proj_weight.detach()
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
        return None
    return module.weight.detach().flatten(1)
