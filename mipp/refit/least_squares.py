"""The least-squares map of one layer, solved from moments."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mipp.information.moments import Moments


@dataclass(frozen=True)
class LayerFit:
    """Mean squared error of one refitted layer, as a share of its targets' variance."""

    layer: str
    error_before: float
    error_after: float


def fit_layer(
    name: str, layer: nn.Module, norm: nn.Module | None, sums: Moments, ridge: float
) -> LayerFit:
    """Solve for a layer's weights and offset and write them into it.

    Parameters
    ----------
    norm : the batch-norm that follows, None without one; takes the offset where the layer has
        no bias.
    sums : moments of the layer's inputs (d,) and of what its outputs should be (m,).
    ridge : pull toward the weights it has, as a share of the inputs' mean variance.
    """
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    xx, xy = sums.xx / sums.n, sums.xy / sums.n
    old = layer.weight.flatten(1).T.double()  # (d, m)
    free_offset = layer.bias is not None or norm is not None
    if not free_offset:  # no place for an offset: fit through the origin
        xx = xx + torch.outer(sums.x_mean, sums.x_mean)
        xy = xy + torch.outer(sums.x_mean, sums.y_mean)
    penalty = ridge * (float(xx.diagonal().mean()) or 1.0)
    eye = torch.eye(xx.shape[0], dtype=xx.dtype, device=xx.device)
    factor = torch.linalg.cholesky(xx + penalty * eye)
    new = torch.cholesky_solve(xy + penalty * old, factor)
    offset = sums.y_mean - sums.x_mean @ new if free_offset else torch.zeros_like(sums.y_mean)
    had = layer.bias.double() if layer.bias is not None else torch.zeros_like(offset)
    before, after = _error(sums, old, had), _error(sums, new, offset)
    layer.weight.copy_(new.T.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(offset)
    elif norm is not None:
        assert isinstance(norm.running_mean, Tensor)
        norm.running_mean.sub_(offset.to(norm.running_mean.dtype))
    return LayerFit(name, before, after)


def _error(sums: Moments, weights: Tensor, offset: Tensor) -> float:
    """Mean squared error of x W + offset, as a share of the targets' variance."""
    variance = sums.yy / sums.n
    spread = (weights * (sums.xx @ weights - 2 * sums.xy)).sum(0) / sums.n + variance
    bias = (sums.y_mean - sums.x_mean @ weights - offset).square()
    return float((spread + bias).sum() / variance.sum().clamp_min(1e-300))
