"""Repairs a pruned network without training: least-squares refit and batch-norm statistics."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mipp.activations.capture import Sampling, Tap
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph, LayerPair
from mipp.information import moments
from mipp.information.moments import Moments
from mipp.progress import track
from mipp.selection.selection import Selection

Batches = Callable[[], Iterable[Tensor]]


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace every batch-norm's running statistics by those of these inputs, in place.

    Means and variances are averaged over batches with equal weight; a network without
    batch-norm is left as it is.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with evaluating(model), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.training = True
        for inputs in batches:
            model(inputs)
        model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@dataclass(frozen=True)
class RefitSettings:
    """Ridge as a share of the mean variance of a layer's inputs; rows sampled per layer."""

    ridge: float
    sampling: Sampling


@dataclass(frozen=True)
class LayerFit:
    """Mean squared error of one refitted layer, as a share of its targets' variance."""

    layer: str
    error_before: float
    error_after: float


def refit(
    pruned: nn.Module,
    dense: nn.Module,
    graph: ChannelGraph,
    selection: Selection,
    batches: Batches,
    settings: RefitSettings,
) -> list[LayerFit]:
    """Replace consumers' weights, front to back and in place, by a least-squares map.

    From the first conv or linear layer that lost inputs onward, each is fitted from its actual
    inputs, in the pruned and so far refitted network, to the dense network's pre-activations
    on the rows it kept; a ridge pulls toward the weights it has. The change of the mean goes
    to the bias, or to the batch-norm that follows.

    Parameters
    ----------
    batches : called for the calibration inputs, the same every time. With a single batch the
        network runs once and each layer is refitted when the pass reaches it; with several,
        each layer costs a pass up to it, and no more than one batch is in memory.

    Source: the least-squares map is the g of arXiv:2411.00147v1, theorem 1.
    """
    names = _consumers_to_refit(graph, selection)
    if not names:
        return []
    targets = _dense_targets(dense, graph, selection, names, batches, settings.sampling)

    def fit(name: str, sums: Moments) -> LayerFit:
        follower = graph.norm_after.get(name)
        norm = pruned.get_submodule(follower) if follower else None
        return _fit_layer(name, pruned.get_submodule(name), norm, sums, settings.ridge)

    with evaluating(pruned), torch.no_grad():
        first = list(itertools.islice(batches(), 2))
        if len(first) == 1:
            return _fit_in_one_pass(pruned, first[0], names, targets, settings.sampling, fit)
        return [
            fit(name, _layer_moments(pruned, batches(), name, i, targets[name], settings.sampling))
            for i, name in track(enumerate(names), total=len(names), label="refit")
        ]


Fit = Callable[[str, Moments], LayerFit]


def _consumers_to_refit(graph: ChannelGraph, selection: Selection) -> list[str]:
    """Conv and linear consumers from the first that lost an input, in execution order."""
    linear = {pair.consumer for pair in graph.pairs if pair.kind != "shortcut"}
    lost = {pair.consumer for pair in graph.pairs if len(selection.dropped(pair.group))}
    ordered = [cost.module for cost in graph.costs if cost.module in linear]
    first = next((i for i, name in enumerate(ordered) if name in lost), len(ordered))
    return ordered[first:]


def _dense_targets(
    dense: nn.Module,
    graph: ChannelGraph,
    selection: Selection,
    names: Sequence[str],
    batches: Batches,
    sampling: Sampling,
) -> Mapping[str, Tensor]:
    """The dense network's pre-activations on kept rows, (rows, kept targets) per layer."""
    pairs = {pair.consumer: pair for pair in graph.pairs}
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    handles = []
    for stream, name in enumerate(names):
        tap = Tap(dense.get_submodule(name), sampling, stream)
        kept = _kept_rows(pairs[name], selection)

        def hook(
            module: nn.Module,
            inputs: tuple[Any, ...],
            output: Tensor,
            tap: Tap = tap,
            kept: Tensor = kept,
            rows: list[Tensor] = found[name],
        ) -> None:
            rows.append(tap.outputs(output, tap.draw(output))[:, kept.to(output.device)])

        handles.append(tap.module.register_forward_hook(hook))
    try:
        with evaluating(dense), torch.no_grad():
            for inputs in batches():
                dense(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def _kept_rows(pair: LayerPair, selection: Selection) -> Tensor:
    if pair.owner is None:
        return torch.arange(pair.targets)
    return torch.from_numpy(np.flatnonzero(np.isin(pair.channel, selection.kept[pair.owner])))


def _fit_in_one_pass(
    pruned: nn.Module,
    inputs: Tensor,
    names: Sequence[str],
    targets: Mapping[str, Tensor],
    sampling: Sampling,
    fit: Fit,
) -> list[LayerFit]:
    fits: list[LayerFit] = []
    handles = []
    for stream, name in enumerate(names):
        tap = Tap(pruned.get_submodule(name), sampling, stream)

        def hook(
            module: nn.Module,
            arguments: tuple[Any, ...],
            output: Tensor,
            tap: Tap = tap,
            name: str = name,
        ) -> Tensor:
            x = tap.inputs(arguments[0], tap.draw(output), output)
            fits.append(fit(name, moments.of_rows(x, targets[name])))
            return module.forward(arguments[0])  # type: ignore[no-any-return]

        handles.append(tap.module.register_forward_hook(hook))
    try:
        pruned(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return fits


class _Reached(Exception):
    """Ends a forward pass at the layer of interest."""


def _layer_moments(
    pruned: nn.Module,
    batches: Iterable[Tensor],
    name: str,
    stream: int,
    targets: Tensor,
    sampling: Sampling,
) -> Moments:
    """Moments of one layer's inputs and targets; each pass stops at the layer."""
    tap = Tap(pruned.get_submodule(name), sampling, stream)
    caught: list[Tensor] = []

    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        caught.append(tap.inputs(arguments[0], tap.draw(output), output))
        raise _Reached

    def chunks() -> Iterator[tuple[Tensor, Tensor]]:
        start = 0
        for inputs in batches:
            with contextlib.suppress(_Reached):
                pruned(inputs)
            x = caught.pop()
            yield x, targets[start : start + x.shape[0]]
            start += x.shape[0]

    handle = tap.module.register_forward_hook(hook)
    try:
        return moments.stream(chunks())
    finally:
        handle.remove()


def _fit_layer(
    name: str, layer: nn.Module, norm: nn.Module | None, sums: Moments, ridge: float
) -> LayerFit:
    """Solve for the layer's weights and offset and write them into it."""
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
