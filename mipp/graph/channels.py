"""Channel groups, layer pairs and costs of a network, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mipp.graph.latency import LatencyTable, Widths
from mipp.graph.reasons import Reason
from mipp.layers import IntArray

REST = ", the rest"


@dataclass(frozen=True)
class Member:
    """One side of a module that a channel group runs through.

    `features[c]` are the indices, on that side, of the group's channel c; shape (width, block).
    """

    module: str
    features: IntArray

    def channels(self, features: int) -> IntArray:
        """The group's channel of each of so many features, -1 for one that is not its own."""
        found = np.full(features, -1, np.int64)
        width, block = self.features.shape
        found[self.features.ravel()] = np.repeat(np.arange(width), block)
        return found


@dataclass(frozen=True)
class BareParameter:
    """A parameter or buffer that no layer owns, such as a scale per channel, cut along one axis."""

    module: str  # its full name
    axis: int
    features: IntArray  # (width, block)


@dataclass(frozen=True)
class SizeAttribute:
    """A number that a module keeps of the features that forward lays out, such as `hidden_dim`."""

    module: str
    attribute: str
    block: int  # features of each channel


@dataclass(frozen=True)
class Statistic:
    """One value that an operator of forward computes of many channels, such as their mean.

    Once channels are gone, it is that of the others.
    """

    module: str  # that runs the operator itself
    before: int  # reductions that the module has run by then
    axis: int  # of the channels, from the last
    features: IntArray  # (width, block)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together.

    Producers make the channels (conv and linear outputs), passengers carry them (batch-norm,
    layer-norm, depthwise and grouped convolutions), consumers read them (conv and linear inputs,
    an attention's in-projection). A layer-norm takes its statistics over the kept channels alone,
    as does what is written out in forward. What reads them in train mode only, such as an
    auxiliary head, is cut with them, no more.
    """

    name: str
    width: int
    producers: tuple[Member, ...]
    passengers: tuple[Member, ...]
    consumers: tuple[Member, ...]
    parameters: tuple[BareParameter, ...] = ()
    sizes: tuple[SizeAttribute, ...] = ()
    statistics: tuple[Statistic, ...] = ()
    choices: tuple[SizeAttribute, ...] = ()  # numbers that forward may lay it out by, or not
    other_consumers: tuple[Member, ...] = ()  # of calls that no rows are sampled from

    def modules(self) -> list[str]:
        """Names of all modules that the group runs through."""
        return [m.module for m in (*self.producers, *self.passengers, *self.readers)]

    @property
    def readers(self) -> tuple[Member, ...]:
        """Who reads it in any call."""
        return (*self.consumers, *self.other_consumers)


@dataclass(frozen=True)
class LayerPair:
    """One consumer of one group: x are the group's features at its input, y is its output.

    `owners` are the groups that own rows of y, with their channel of each row, -1 for one that
    is not theirs; of the network's outputs, there are none.
    """

    name: str
    group: str
    consumer: str
    kind: str  # of the consumer's adapter, or "pixels"
    features: IntArray  # (channels, block of input features)
    targets: int
    positions: int  # of the output map, or tokens
    owners: Mapping[str, IntArray]  # group -> (targets,)

    def rows_kept(self, kept: Mapping[str, Sequence[int] | IntArray]) -> IntArray:
        """Rows of y whose channel is among those kept, or whose group is not."""
        gone = np.zeros(self.targets, bool)
        for group, channel in self.owners.items():
            if group in kept:
                gone |= (channel >= 0) & ~np.isin(channel, kept[group])
        return np.flatnonzero(~gone)


@dataclass(frozen=True)
class LayerCost:
    """Parameters and multiply-accumulates of one module at full width.

    `inputs` and `outputs` name the groups on either side with the features of each channel;
    a passenger has them on one side only. What a module multiplies whatever its widths is a cost of
    its own, named with `REST`.
    """

    module: str
    weights: int
    per_output: int
    macs: int
    in_features: int
    out_features: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]

    @property
    def owner(self) -> str:
        """The module's own name."""
        return self.module.removesuffix(REST)


@dataclass(frozen=True)
class Product:
    """Multiply-accumulates of operators beside the layers, such as queries with keys.

    Each factor shrinks by itself: it names its groups with the share that one channel has of it.
    """

    macs: int
    factors: tuple[Mapping[str, float], ...] = ()


class Life(NamedTuple):
    """When a group is alive: from the first layer that writes it to the last that reads it.

    Both are positions in the order in which the network's modules run.
    """

    written: int
    read: int


@dataclass(frozen=True)
class ChannelGraph:
    """What can be pruned in a network, in top-down order, and what it costs."""

    groups: Mapping[str, ChannelGroup]  # groups with the latest consumer first
    pairs: tuple[LayerPair, ...]
    left_whole: Mapping[str, Reason]  # by module
    costs: tuple[LayerCost, ...]
    fixed_params: int
    norm_after: Mapping[str, str]  # conv or linear -> the batch-norm that reads its output
    widths: Mapping[str, int] = field(default_factory=dict)
    lives: Mapping[str, Life] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)  # layer -> who makes the other side
    rectified: frozenset[str] = frozenset()  # layers whose outputs a ReLU alone reads
    repeated: frozenset[str] = frozenset()  # modules that run more than once
    products: tuple[Product, ...] = ()
    unreached: Mapping[str, str] = field(default_factory=dict)  # modules no call ran -> reason
    varying: frozenset[str] = frozenset()  # modules, and parameters, used for some inputs only
    latency: LatencyTable | None = None  # once measured, see `mipp.latency`
    # macs, params or latency -> how many times as much the dense network has, whose heads are wider
    wider: Mapping[str, float] = field(default_factory=dict)

    def pairs_of(self, group: str) -> tuple[LayerPair, ...]:
        """The pairs whose upstream is this group."""
        return tuple(pair for pair in self.pairs if pair.group == group)

    def params(self, kept: Mapping[str, int]) -> int:
        """Parameters when each group keeps that many channels."""
        return self.fixed_params + round(sum(self.params_in(cost, kept) for cost in self.costs))

    def macs(self, kept: Mapping[str, int]) -> int:
        """Multiply-accumulates of one input when each group keeps that many channels."""
        layers = sum(self.macs_in(cost, kept) for cost in self.costs)
        return round(layers + sum(_product(product, self, kept) for product in self.products))

    def dense_params(self) -> int:
        """Parameters of the dense network."""
        return round(self.params(self.widths) * self.wider.get("params", 1.0))

    def dense_macs(self) -> int:
        """Multiply-accumulates of one input of the dense network."""
        return round(self.macs(self.widths) * self.wider.get("macs", 1.0))

    def params_in(self, cost: LayerCost, kept: Mapping[str, int]) -> float:
        """Parameters of one layer when each group keeps that many channels."""
        outputs = _kept_features(cost.out_features, cost.outputs, self, kept)
        return cost.weights * _share(cost, self, kept) + cost.per_output * outputs

    def macs_in(self, cost: LayerCost, kept: Mapping[str, int]) -> float:
        """Multiply-accumulates of one layer when each group keeps that many channels."""
        return cost.macs * _share(cost, self, kept)

    def features(self, kept: Mapping[str, int]) -> Widths:
        """Input and output features of every module when each group keeps that many channels."""
        return {
            cost.module: (
                _kept_features(cost.in_features, cost.inputs, self, kept),
                _kept_features(cost.out_features, cost.outputs, self, kept),
            )
            for cost in self.costs
        }

    def milliseconds(self, kept: Mapping[str, int]) -> float:
        """Predicted time of one batch, from the measured table, which must be there."""
        assert self.latency is not None
        return self.latency.milliseconds(self.features(kept))

    def dense_milliseconds(self) -> float:
        """Predicted time of one batch of the dense network."""
        return self.milliseconds(self.widths) * self.wider.get("latency", 1.0)


def _kept_features(
    total: int, terms: Mapping[str, int], graph: ChannelGraph, kept: Mapping[str, int]
) -> int:
    return total - sum((graph.widths[g] - kept[g]) * block for g, block in terms.items())


def _share(cost: LayerCost, graph: ChannelGraph, kept: Mapping[str, int]) -> float:
    inputs = _kept_features(cost.in_features, cost.inputs, graph, kept)
    outputs = _kept_features(cost.out_features, cost.outputs, graph, kept)
    features = cost.in_features * cost.out_features
    return inputs * outputs / features if features else 0.0  # a layer may have no outputs


def _product(product: Product, graph: ChannelGraph, kept: Mapping[str, int]) -> float:
    macs = float(product.macs)
    for factor in product.factors:
        macs *= 1 - sum((graph.widths[g] - kept[g]) * share for g, share in factor.items())
    return macs
