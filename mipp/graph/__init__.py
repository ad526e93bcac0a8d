"""What can be pruned in a network: channel groups, who reads them, what they cost."""

from mipp.graph.build import build_graph
from mipp.graph.channels import (
    ChannelGraph,
    ChannelGroup,
    LayerCost,
    LayerPair,
    Member,
)
from mipp.layers import IntArray

__all__ = [
    "ChannelGraph",
    "ChannelGroup",
    "IntArray",
    "LayerCost",
    "LayerPair",
    "Member",
    "build_graph",
]
