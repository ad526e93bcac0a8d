"""The layers that read a block's hidden channels, and how to write to them.

A rival that repairs works on a copy of full width: it gives the layer that reads a group other
weights, nothing for the channels that go, and the copy is then cut as any selection is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput
from mipp.cut import apply_selection
from mipp.errors import ConfigError
from mipp.graph import ChannelGraph, LayerPair
from mipp.inputs import Inputs, each
from mipp.layers import layer_at
from mipp.selection.selection import Selection
from mipp.settings import Limits


def hidden_groups(graph: ChannelGraph) -> dict[str, LayerPair]:
    """Groups that a single layer reads, and nothing beside, by name in the order of execution.

    Those of a residual stream have several readers, and are not among them.
    """
    found = {}
    for name in reversed(graph.groups):
        pairs = graph.pairs_of(name)
        if len(pairs) == len(graph.groups[name].readers) == 1 and _reads_alone(graph, pairs[0]):
            found[name] = pairs[0]
    return found


def _reads_alone(graph: ChannelGraph, pair: LayerPair) -> bool:
    inputs = {cost.module: cost.in_features for cost in graph.costs}
    return pair.kind != "pixels" and pair.features.size == inputs[pair.consumer]


def hidden_only(graph: ChannelGraph) -> Limits:
    """Limits under which only hidden channels go."""
    whole = graph.groups.keys() - hidden_groups(graph).keys()
    return Limits(keep_outputs=tuple(sorted(whole)))


def lost(graph: ChannelGraph, selection: Selection) -> Iterator[LayerPair]:
    """The readers of groups that lose channels, in the order of execution.

    Raises
    ------
    ConfigError : a group loses channels that others read too.
    """
    hidden = hidden_groups(graph)
    dropped = {name for name in selection.kept if len(selection.dropped(name))}
    odd = sorted(dropped - hidden.keys())
    if odd:
        raise ConfigError(
            f"the rival cannot repair after group {odd[0]!r}.\nExpected losses of hidden channels "
            f"alone, which one layer reads: {', '.join(hidden)}; got some of {len(odd)} others; "
            "select under hidden_only(graph)."
        )
    yield from (pair for name, pair in hidden.items() if name in dropped)


def weight_of(model: nn.Module, pair: LayerPair) -> Tensor:
    """A copy of the reader's weights by channel, float64 (outputs, channels, block)."""
    linear = layer_at(model, pair.consumer).map
    assert linear is not None
    mine = linear.weight.detach().double()[:, torch.from_numpy(pair.features.ravel())]
    return mine.reshape(len(mine), len(pair.features), -1)


def write(
    model: nn.Module, graph: ChannelGraph, pair: LayerPair, weight: Tensor, shift: Tensor
) -> None:
    """Give the reader weights (outputs, channels, block), and its outputs a shift (outputs,).

    The shift goes to its bias, or else out of the mean of the batch-norm that follows.

    Raises
    ------
    ConfigError : a shift has nowhere to go.
    """
    layer = layer_at(model, pair.consumer)
    linear = layer.map
    assert linear is not None
    whole = torch.empty_like(linear.weight)
    columns = torch.from_numpy(pair.features.ravel())
    whole[:, columns] = weight.reshape(len(weight), len(columns), -1).to(whole.dtype)
    bias = linear.bias
    with torch.no_grad():
        layer.set_map(whole, shift if bias is None else bias + shift.to(bias.dtype))
        if bias is None and shift.any():
            _norm_mean(model, graph, pair).sub_(shift)


def _norm_mean(model: nn.Module, graph: ChannelGraph, pair: LayerPair) -> Tensor:
    name = graph.norm_after.get(pair.consumer)
    statistics = layer_at(model, name).statistics if name else None
    if statistics is None:
        raise ConfigError(
            f"the rival has no place for the mean that layer {pair.consumer!r} has lost.\nExpected "
            "a bias, or a batch-norm behind it, got neither; give the layer a bias."
        )
    return statistics.mean


Fold = Callable[[LayerPair, Tensor, np.ndarray], tuple[Tensor, Tensor]]


def folded(given: CriterionInput, selection: Selection, fold: Fold) -> nn.Module:
    """The network cut, each reader with what a rival folds into its weights.

    Parameters
    ----------
    fold : (pair, weights (outputs, channels, block), kept channels) -> weights for the kept
        channels (outputs, kept, block), and a shift of the outputs (outputs,).
    """
    model = copy.deepcopy(given.model)
    for pair in lost(given.graph, selection):
        kept = selection.kept[pair.group]
        before = weight_of(model, pair)
        mine, shift = fold(pair, before, kept)
        after = torch.zeros_like(before)
        after[:, torch.from_numpy(kept)] = mine
        write(model, given.graph, pair, after, shift)
    return cut(model, selection, given)


def cut(model: nn.Module, selection: Selection, given: CriterionInput) -> nn.Module:
    """The copy without the channels that go."""
    return apply_selection(model, selection, first_of(given))


def first_of(given: CriterionInput) -> Inputs:
    """A single calibration input."""
    return each(next(iter(given.inputs())), lambda tensor: tensor[:1])
