"""Networks that are pruned and repaired without training: rivals' repairs beside this project's.

Three questions. What do rivals with a repair of their own come to? What do other criteria come to
with this project's repair? And how much of the rest is widths, how much is units? Rivals prune the
hidden channels of blocks, the same share of each, and leave residual streams whole. A point is a
method under a budget from a seed. With --write a run that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.accuracy.methods import Trial
from benchmarks.accuracy.repairing_methods import METHODS, measure
from benchmarks.accuracy.repairing_page import (
    ACCURACIES,
    FILE,
    PAGE,
    SETTINGS,
    points_in,
    table,
    write_page,
)
from benchmarks.accuracy.trial_options import add_trial_options, told
from benchmarks.accuracy.workloads import WORKLOADS, dense_network, load_images
from benchmarks.shared.command import circumstances, fitting, parse, parser
from benchmarks.shared.kept import Point
from benchmarks.shared.origin import measured_now
from benchmarks.shared.tables import print_table
from mipp.process.allocator import keep_freed_memory
from mipp.progress import track

NETWORKS = ("resnet20", "resnet20-second", "mobilenet", "cct")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("accuracy.repairing", __doc__ or "", PAGE)
    add_trial_options(options, NETWORKS)
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    points = points_in(FILE if options.write else None)
    for seed in options.seeds:
        trial = trial_of(options, seed)
        every = list(every_point(options, trial))
        wanted = every if options.again else points.missing(every)
        for point in track(wanted, total=len(wanted), label=f"seed {seed}"):
            found = measure(trial, METHODS[point["method"]], point["budget"])
            points.add(point | found | measured_now())
            print(told(point | found, {name: name for name in ACCURACIES}), flush=True)
    print_table(table([p for p in points.all() if p["workload"] == options.workload]))
    circumstances(options)
    if options.write:
        write_page()


def trial_of(options: argparse.Namespace, seed: int) -> Trial:
    workload, root = WORKLOADS[options.workload], options.data_root
    images = load_images(workload, root, options.images, seed).limited(None, options.test_images)
    dense = dense_network(workload, images, root, Path("runs/accuracy"))
    return Trial(workload, dense, images, seed)


def every_point(options: argparse.Namespace, trial: Trial) -> Iterator[Point]:
    """The keys of all points of a trial."""
    sizes = (options.images, len(trial.images.test))
    for budget in options.budgets or WORKLOADS[options.workload].budgets:
        for method in fitting("--methods", options.methods, [*METHODS]):
            settings = (options.workload, budget, *sizes)
            yield dict(zip(SETTINGS, settings, strict=True)) | {
                "method": method,
                "seed": trial.seed,
            }


if __name__ == "__main__":
    main()
