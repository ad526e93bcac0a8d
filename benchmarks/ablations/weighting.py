"""Groups of channels that count more or less: which widths have the lower output error, and win?

A point is one plan under a budget, refitted on nine tenths of the calibration images; the outputs'
error is that on the other tenth. With --write a run that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.ablations.experiments_page import PAGE, write_page
from benchmarks.ablations.weighting_table import KEPT, KEY, PLAIN, STREAMS
from benchmarks.accuracy.workloads import CPU, WORKLOADS, dense_network, load_images
from benchmarks.shared.command import add_again, add_data_root, fitting, parse, parser
from benchmarks.shared.kept import Point
from mipp.budget import Budget
from mipp.data import ImageSplit
from mipp.graph import ChannelGraph
from mipp.metrics import accuracy
from mipp.process.allocator import keep_freed_memory
from mipp.pruning.pruner import Pruner
from mipp.pruning.ranking import Ranking
from mipp.refit import output_error, outputs_of
from mipp.selection import by_information
from mipp.selection.prices import prices_of
from mipp.settings import Mipp

NETWORKS, BATCH, HELD_OUT = ("resnet20", "cct", "mobilenet"), 256, 10
Weights = Mapping[str, float]
Weigh = Callable[[ChannelGraph], Weights]
STEP = 2.0  # of a third of the network


def streams_of(graph: ChannelGraph) -> set[str]:
    """Groups that layers add to."""
    return {
        name
        for name, group in graph.groups.items()
        if any(member.module in graph.sums for member in group.producers)
    }


def weighing(streams: float, third: int | None = None, factor: float = 1.0) -> Weigh:
    """Streams, and one third of the groups in the order of the network, count so many times."""

    def weights(graph: ChannelGraph) -> Weights:
        names, summed = [*reversed(graph.groups)], streams_of(graph)
        return {
            name: (streams if name in summed else 1.0)
            * (factor if 3 * place // len(names) == third else 1.0)
            for place, name in enumerate(names)
        }

    return weights


WAYS: Mapping[str, Weigh] = {
    PLAIN: weighing(1.0),
    **{name: weighing(factor) for name, factor in STREAMS.items()},
} | {
    f"{place} third x {factor:g}, streams x {streams:g}": weighing(streams, third, factor)
    for streams in (1.0, 1.5)
    for third, place in enumerate(("first", "second", "last"))
    for factor in (STEP, 1 / STEP)
}


@dataclass(frozen=True)
class Trial:
    """A network that is measured, and the images that judge it."""

    pruner: Pruner
    ranking: Ranking
    judged: Tensor
    dense: list[Tensor]  # its outputs of these
    test: ImageSplit


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("ablations.weighting", __doc__ or "", PAGE)
    add_data_root(options)
    add_again(options)
    options.add_argument("--workloads", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    options.add_argument("--budgets", nargs="+", default=["macs:0.5", "macs:0.3"], help="of MACs")
    options.add_argument("--ways", nargs="+", default=["*"], help="names, or patterns with *")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of calibration")
    options.add_argument("--images", type=int, default=1024, help="calibration images")
    options.add_argument("--test-images", type=int, default=2000, help="the first")
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    keep_freed_memory()
    sizes = options.images, options.test_images
    every = [
        (workload, budget, *sizes, way, seed)
        for workload in options.workloads
        for seed in options.seeds
        for budget in options.budgets
        for way in fitting("--ways", options.ways, [*WAYS])
    ]
    KEPT.fill(options, every, lambda point: measure(options, point))
    if options.write:
        write_page()


def measure(options: argparse.Namespace, point: Point) -> Point:
    """One plan, refitted."""
    trial = trial_of(options.data_root, *(point[name] for name in (KEY[0], *KEY[2:4], KEY[5])))
    started, pruner = time.process_time(), trial.pruner
    with counted(WAYS[point["way"]](pruner.graph)):
        plan = pruner.plan(point["budget"], trial.ranking)
    pruned = pruner.cut(plan)
    seconds = time.process_time() - started
    return {
        "macs": 100 * pruned.report.macs / pruned.report.macs_dense,
        "error": output_error(outputs_of(pruned.model, trial.judged), trial.dense),
        "accuracy": 100 * accuracy(pruned.model, trial.test, batch_size=500, device=CPU),
        "cpu_seconds": seconds,
    }


@contextmanager
def counted(weights: Weights) -> Iterator[None]:
    """Nats of a group count so many times in the choices that are made within."""

    def prices(graph: ChannelGraph, method: Mipp, budget: Budget) -> Mapping[str, float]:
        plain = prices_of(graph, method, budget)
        return {group: price / weights[group] for group, price in plain.items()}

    with patch.object(by_information, "prices_of", prices):
        yield


@lru_cache(maxsize=1)
def trial_of(root: str | None, workload: str, images: int, test_images: int, seed: int) -> Trial:
    """The network measured with nine tenths of the images."""
    network = WORKLOADS[workload]
    found = load_images(network, root, images, seed).limited(None, test_images)
    dense = dense_network(network, found, root, Path("runs/accuracy"))
    every = torch.cat([x for x, _ in found.calibration.batches(BATCH)])
    held_out = torch.arange(len(every)) % HELD_OUT == 0
    learned, judged = every[~held_out], every[held_out]
    pruner = Pruner(dense, learned.split(BATCH), images=len(learned), seed=seed)
    return Trial(pruner, pruner.rank(), judged, outputs_of(pruner.model, judged), found.test)


if __name__ == "__main__":
    main()
