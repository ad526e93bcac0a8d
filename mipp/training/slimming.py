"""Network slimming while training: L1 on the scales of batch norms (Liu et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mipp.errors import ConfigError
from mipp.layers import layer_of


class Slimming:
    """A `Regulariser` that pulls the scales of all batch norms towards zero.

    Source: arXiv:1708.06519v1 eq. (1), whose strength is 1e-4 or 1e-5 and whose units are then
    ranked by `bn-scale`.

    Parameters
    ----------
    strength : what each scale's absolute value adds to the loss.
    model : the network to be trained.

    Raises
    ------
    ConfigError : the network has no batch norm with a scale.

    Example
    -------
    >>> model = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5))
    >>> round(Slimming(1e-4, model).penalty(model).item(), 6)
    0.0005
    """

    def __init__(self, strength: float, model: nn.Module) -> None:
        self._strength = strength
        if not scales_of(model):
            raise ConfigError(
                f"train.slimming={strength:g} has no effect on {type(model).__name__}, none of "
                "whose layers is a batch norm with a scale.\nExpected 0, got "
                f"{strength:g}; leave it out, or set choose.method=slimming, which gives other "
                "layers scales of their own."
            )

    def penalty(self, model: nn.Module) -> Tensor:
        """Strength times the sum of absolute scales, shape ()."""
        return self._strength * torch.stack([s.abs().sum() for s in scales_of(model)]).sum()

    def after_step(self, model: nn.Module) -> None:
        """Nothing."""

    def state_dict(self) -> dict[str, Any]:
        """The strength, by which a resumed training knows its own."""
        return {"slimming": self._strength}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing changes from step to step."""


def scales_of(model: nn.Module) -> list[Tensor]:
    """The scales of a network's batch norms."""
    found = []
    for module in model.modules():
        layer = layer_of(module)
        statistics = None if layer is None else layer.statistics
        if statistics is not None and statistics.scale is not None:
            found.append(statistics.scale)
    return found
