"""Least-squares refit of a pruned network, front to back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mipp.activations.capture import Sampling
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph
from mipp.graph.tied import sharing
from mipp.inputs import Inputs, each
from mipp.layers import Statistics, layer_at
from mipp.progress import track
from mipp.refit.dense_targets import Dense
from mipp.refit.filter_lengths import filter_lengths, restore_lengths
from mipp.refit.least_squares import SOLUTIONS, LayerFit, Rows, fit_layer, leave_layer
from mipp.refit.rebase import NormInputs
from mipp.refit.rectified import rows_to_fit
from mipp.refit.sharing import Batches, Chunks
from mipp.refit.side_by_side import Seen, fit_side_by_side, norm_after
from mipp.selection.selection import Selection

NOT_LINEAR = (
    "its weights were left as they are: what it computes is no linear map of them, since its "
    "forward does more than its kind of layer"
)
SHARED = (
    "its weights were left as they are: another module shares them, whose inputs and outputs are "
    "others"
)


@dataclass(frozen=True)
class RefitSettings:
    """How layers are fitted.

    `ridge` is a share of the mean variance of a layer's inputs, `sampling` of the rows of each
    layer. `solutions` counts those of a layer whose outputs a ReLU leaves some freedom, the first
    of which knows nothing of it. `lengths` are those of filters before a batch-norm, `norms` its
    statistics: of the dense network, or of what it reads now, with the same outputs.
    """

    ridge: float
    sampling: Sampling
    solutions: int = SOLUTIONS
    lengths: Literal["former", "fitted"] = "former"
    norms: Literal["dense", "own"] = "dense"


def refit(
    pruned: nn.Module,
    dense: nn.Module,
    graph: ChannelGraph,
    selection: Selection,
    batches: Batches,
    settings: RefitSettings,
) -> list[LayerFit]:
    """Replace consumers' weights, front to back and in place, by a least-squares map.

    From the first conv or linear layer that lost inputs onward, attentions' in-projections
    among them, each is fitted from its actual
    inputs, in the pruned and so far refitted network, to the dense network's pre-activations
    on the rows it kept; a ridge pulls toward the weights it has. Where a layer's output is added
    to a skip connection, it is fitted to make up for the error of that side too, so that errors
    do not pile up along a residual stream. Where a ReLU follows and passes nothing on, any output
    that leaves it so will do. The change of the mean goes to the bias, or to the batch-norm that
    follows; filters before one keep their length. A layer that runs several times is fitted to the
    rows of all its calls, once what runs before the last of them is. A layer that computes
    something else than a linear map of its weights is left as it is, and its `LayerFit` says so.

    Parameters
    ----------
    batches : called for the calibration inputs, the same every time. Both networks run once over
        them, all batches side by side, and each layer is refitted when they have reached it; after
        one that runs several times the pruned network begins anew. A layer at which so many would
        take too much memory is fitted to the first of them.

    Source: the least-squares map is the g of arXiv:2411.00147v1, theorem 1; making up for the
    skip connection follows He et al. (arXiv:1707.06168v2).
    """
    names = _consumers_to_refit(dense, graph, selection)
    if not names:
        return []
    weights = {name: _weight_shape(pruned, name) for name in names}
    chunks = Chunks.of(dense, graph, weights, batches, settings.sampling)
    target = Dense(dense, graph, selection, names, chunks)

    plain: set[str] = set()
    shared = sharing(pruned)

    def fit(name: str, seen: list[Seen]) -> LayerFit:
        norm, rectified = _statistics_after(pruned, graph, name), name in graph.rectified
        part = seen[0].part
        outputs = [one.now for one in seen if one.now is not None]
        rows = []
        while seen:  # what has been read is let go
            rows.append(_rows_to_fit(seen.pop(0), norm, rectified=rectified))
        if part is None or name in shared:
            why = NOT_LINEAR if part is None else SHARED
            return leave_layer(name, rows, outputs, why)
        del outputs
        if part.plain:
            plain.add(name)
        return fit_layer(name, part, norm, rows, ridge=settings.ridge, solutions=settings.solutions)

    lengths = filter_lengths(pruned, names, graph.norm_after)
    norms = NormInputs(pruned)
    passes = fit_side_by_side(pruned, target, graph, fit, norms)
    with evaluating(dense), evaluating(pruned), torch.no_grad(), closing(passes) as layers:
        fits = {one.layer: one for one in track(layers, total=len(target.order), label="refit")}
    if settings.norms == "own":
        norms.rebase()
    if settings.lengths == "former":
        lengths = {name: lengths[name] for name in lengths if name in plain}
        restore_lengths(pruned, lengths, graph.norm_after, _first(batches))
    return [fits[name] for name in names if name in fits]


def _rows_to_fit(seen: Seen, norm: Statistics | None, *, rectified: bool) -> Rows:
    rows = rows_to_fit(seen.x, seen.output, norm, seen.sides, rectified=rectified)
    return rows if seen.rest is None else rows.beside(seen.rest)


def _weight_shape(model: nn.Module, name: str) -> torch.Size:
    """Outputs of a layer, and what each of them reads."""
    linear = layer_at(model, name).map
    assert linear is not None
    return linear.weight.shape


def _first(batches: Batches) -> Inputs:
    """A single calibration input."""
    return each(next(iter(batches())), lambda tensor: tensor[:1])


def _consumers_to_refit(dense: nn.Module, graph: ChannelGraph, selection: Selection) -> list[str]:
    """Consumers with weights from the first that lost an input; those that run again come last."""
    consumers = {pair.consumer for pair in graph.pairs}
    linear = {name for name in consumers if layer_at(dense, name).filters is not None}
    lost = {pair.consumer for pair in graph.pairs if len(selection.dropped(pair.group))}
    ordered = [cost.module for cost in graph.costs if cost.module in linear]
    first = next((i for i, name in enumerate(ordered) if name in lost), len(ordered))
    again = graph.repeated if first < len(ordered) else ()
    return ordered[first:] + [name for name in ordered[:first] if name in again]


def _statistics_after(model: nn.Module, graph: ChannelGraph, name: str) -> Statistics | None:
    norm = norm_after(model, graph, name)
    return norm.statistics if norm is not None else None
