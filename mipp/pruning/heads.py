"""Networks with narrower heads than the dense one: what that changes for a plan."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from mipp.errors import ConfigError, option
from mipp.graph import ChannelGraph
from mipp.inputs import Shape
from mipp.metrics import count_macs, count_params
from mipp.narrowing import attentions_in
from mipp.settings import Limits


def times_wider(
    graph: ChannelGraph, model: nn.Module, dense: nn.Module, shape: Shape
) -> dict[str, float]:
    """How many times as much as the network of this graph the dense one has, see `ChannelGraph`."""
    own, whole = (
        {"macs": count_macs(network, shape), "params": count_params(network)}
        for network in (model, dense)
    )
    here = {"macs": graph.macs(graph.widths), "params": graph.params(graph.widths)}
    return {kind: 1 + (whole[kind] - own[kind]) / max(1, here[kind]) for kind in here}


def require_not_named(model: nn.Module, limits: Limits, among: Collection[str]) -> None:
    """Refuse to leave alone what loses dimensions of its heads before units are chosen.

    Parameters
    ----------
    among : names of the attentions that do.

    Raises
    ------
    ConfigError : a pattern of the limits names one of them, or a part of it.
    """
    for key in ("ignore", "keep_outputs", "keep_inputs"):
        for pattern in getattr(limits, key) if among else ():
            for attention in attentions_in(model):
                if attention.name in among and attention.is_named([pattern]):
                    raise ConfigError(
                        f"{option(key)}: {pattern!r} asks to leave {attention.name} alone, whose "
                        "heads become narrower before units are chosen.\nExpected heads that stay "
                        f"as wide as they are, got {option('narrow_heads')} below 1; set "
                        f"{option('narrow_heads')}=1."
                    )
