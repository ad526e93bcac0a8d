"""What can be pruned in a network: channel groups, who reads them, what they cost.

`build` puts it together. `trail` sees which layers run, in what order and at what cost; `passes`
finds the calls that differ, such as train mode; `labels` follows every channel through them
(`tracker` knows the labels of tensors, `module_rules` what layers do to them, `operation_rules` and
`operations` what operators do, `record` keeps what was seen, `outputs` the sums and ReLUs that
layers' outputs meet). `grouping` and `heads` make groups of it, `probe` proves each by `cutting`
it, `costs` and `latency` price them. `pixels` adds the input; `projections` takes attentions to
other tokens apart, before anything else.
"""

from mipp.graph.build import build_graph
from mipp.graph.channels import (
    ChannelGraph,
    ChannelGroup,
    LayerCost,
    LayerPair,
    Member,
)
from mipp.graph.projections import with_projections
from mipp.layers import IntArray

__all__ = [
    "ChannelGraph",
    "ChannelGroup",
    "IntArray",
    "LayerCost",
    "LayerPair",
    "Member",
    "build_graph",
    "with_projections",
]
