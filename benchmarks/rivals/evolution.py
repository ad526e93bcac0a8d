"""Search over widths: regularised evolution (Real et al. 2019), and a ranking without training.

Both choose how many units of each group stay; which ones, the same order says to all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mipp.budget import Budget
from mipp.cut import apply_to_groups
from mipp.graph import ChannelGraph, IntArray
from mipp.pruning.pruner import Pruner
from mipp.pruning.repair import Cut, mend
from mipp.selection.selection import Selection
from mipp.selection.spending import fits
from mipp.settings import Refit

Widths = Mapping[str, int]
Score = Callable[[nn.Module], float]  # the higher, the better
POPULATION, SAMPLE = 8, 3  # few, as there is time for tens of networks


@dataclass(frozen=True)
class Looked:
    """The best widths so far, how many were looked at, and the CPU seconds since the start."""

    widths: Widths
    networks: int
    seconds: float


def cut_to(pruner: Pruner, widths: Widths, order: Mapping[str, IntArray]) -> Cut:
    """The network cut to widths, by an order of each group's units, the best first."""
    kept = {name: np.sort(order[name][:width]) for name, width in widths.items()}
    selection = Selection(kept, pruner.graph.widths, "widths")
    model = apply_to_groups(pruner.model, selection, pruner.graph.groups)
    return Cut(model, pruner.model, pruner.graph, selection)


def refitted(pruner: Pruner, widths: Widths, order: Mapping[str, IntArray]) -> nn.Module:
    """The same, with the default repair."""
    cut = cut_to(pruner, widths, order)
    mend(cut, Refit(), pruner.calibration, pruner.seed)
    return cut.model


def evolved(
    pruner: Pruner, order: Mapping[str, IntArray], budget: Budget, score: Score, seed: int
) -> Iterator[Looked]:
    """Regularised evolution: the best of a few has a child, and the oldest of all leaves.

    Yields without end, after every network that is refitted and scored.

    Source: Real et al. 2019, arXiv:1802.01548, algorithm 1. Departs: genes are widths; one of them
    is changed by up to a half, and all are scaled to the budget.
    """
    rng, graph = np.random.default_rng(seed), pruner.graph
    population: list[tuple[float, Widths]] = []
    best, networks, started = (-np.inf, dict(graph.widths)), 0, time.process_time()
    while True:
        if len(population) < POPULATION:
            child = drawn(graph, budget, rng)
        else:
            sample = rng.choice(len(population), SAMPLE, replace=False)
            parent = max((population[i] for i in sample), key=lambda one: one[0])[1]
            child = mutated(graph, parent, budget, rng)
            population.pop(0)
        population.append((score(refitted(pruner, child, order)), child))
        best, networks = max(best, population[-1], key=lambda one: one[0]), networks + 1
        yield Looked(best[1], networks, time.process_time() - started)


def ranked(
    pruner: Pruner,
    order: Mapping[str, IntArray],
    budget: Budget,
    batch: tuple[Tensor, Tensor],
    seed: int,
) -> Iterator[Looked]:
    """Random widths, ranked in one shot by SNIP's sum over the weights of the cut network.

    Yields without end, after every network that is cut and scored, none of them refitted.

    Source: in the manner of PreNAS (Wang et al. 2023, arXiv:2304.14636), which ranks candidates by
    a score that needs no training. Departs: plain SNIP, of widths alone.
    """
    rng, started, networks = np.random.default_rng(seed), time.process_time(), 0
    best: tuple[float, Widths] = (-np.inf, dict(pruner.graph.widths))
    while True:
        widths = drawn(pruner.graph, budget, rng)
        found = sensitivity(cut_to(pruner, widths, order).model, batch)
        best, networks = max(best, (found, widths), key=lambda one: one[0]), networks + 1
        yield Looked(best[1], networks, time.process_time() - started)


def sensitivity(model: nn.Module, batch: tuple[Tensor, Tensor]) -> float:
    """Sum over all weights of |weight times gradient of the loss|."""
    weights = [p.requires_grad_(True) for p in model.parameters()]
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    slopes = torch.autograd.grad(loss, weights)
    return sum(float((w * s).detach().abs().sum()) for w, s in zip(weights, slopes, strict=True))


def drawn(graph: ChannelGraph, budget: Budget, rng: np.random.Generator) -> Widths:
    """Random shares of every group, scaled to the budget."""
    return to_budget(graph, {n: w * rng.uniform(0.1, 1) for n, w in graph.widths.items()}, budget)


def mutated(
    graph: ChannelGraph, parent: Widths, budget: Budget, rng: np.random.Generator
) -> Widths:
    """One width changed by up to a half, then all scaled to the budget."""
    name, factor = rng.choice([*parent]), rng.uniform(0.5, 1.5)
    shape = {n: w * (factor if n == name else 1.0) for n, w in parent.items()}
    return to_budget(graph, shape, budget)


def to_budget(graph: ChannelGraph, shape: Mapping[str, float], budget: Budget) -> Widths:
    """The largest widths in these proportions that meet the budget, each at least 1."""

    def scaled(factor: float) -> Widths:
        return {
            name: int(np.clip(round(factor * width), 1, graph.widths[name]))
            for name, width in shape.items()
        }

    low, high = 0.0, max(graph.widths[name] / width for name, width in shape.items())
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(graph, scaled(middle), budget) else (low, middle)
    return scaled(low)
