"""Test accuracy at equal budgets: this project beside every criterion of Torch-Pruning.

A point is a method under a budget from a seed. With --write a run that is cut short goes on where
it stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.accuracy.methods import NAMES, Trial, measure, methods_for
from benchmarks.accuracy.page import PAGE, write_page
from benchmarks.accuracy.results import (
    ACCURACIES,
    FILE,
    heading,
    points_in,
    settings_of,
    table,
    under,
    verdicts,
)
from benchmarks.accuracy.trial_options import add_precision, add_trial_options, told
from benchmarks.accuracy.workloads import WORKLOADS, Workload, dense_network, load_images
from benchmarks.rivals.torch_pruning import GoalMissed
from benchmarks.shared.command import (
    circumstances,
    fitting,
    listed,
    parse,
    parser,
    versions,
)
from benchmarks.shared.kept import Point, Points
from benchmarks.shared.tables import print_table
from mipp.budget import parse_budget
from mipp.errors import BudgetError, DataError
from mipp.process.allocator import keep_freed_memory
from mipp.progress import track
from mipp.selection.spending import UNBOUNDED


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("accuracy", __doc__ or "", PAGE)
    add_trial_options(options, WORKLOADS)
    options.add_argument("--epochs", type=int, default=2, help="of fine-tuning, 0 for none")
    add_precision(options)
    options.add_argument("--train-images", type=int, help="of fine-tuning, the first")
    options.add_argument("--dense-images", type=int, help="that train the dense network, the first")
    options.add_argument(
        "--cache", type=Path, default=Path("runs/accuracy"), help="folder of dense networks"
    )
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    points = points_in(FILE if options.write else None)
    try:
        missed = run(WORKLOADS[options.workload], options, points)
    except (BudgetError, DataError) as error:
        sys.exit(str(error))
    show([point for point in points.all() if point["workload"] == options.workload])
    circumstances(options)
    if options.write:
        write_page()
    if missed:
        sys.exit("\n".join(["", "These points are missing:", *missed]))


def run(workload: Workload, options: argparse.Namespace, points: Points) -> list[str]:
    """Measure every point that is not there yet; those that no network was found for.

    Raises
    ------
    DataError : the images or the checkpoint are not there.
    BudgetError : a budget is none that all methods can meet.
    """
    budgets = checked(options.budgets or workload.budgets)
    root = options.data_root
    first = load_images(workload, root, options.images, seed=0).limited(options.dense_images, None)
    dense = dense_network(workload, first, root, options.cache)
    trained_on = len(first.training) if workload.training else 0
    methods = {method.name: method for method in methods_for(dense, options.epochs)}
    names = fitting("--methods", options.methods, [*methods])
    missed = []
    for seed in options.seeds:
        images = load_images(workload, root, options.images, seed)
        images = images.limited(options.train_images, options.test_images)
        trial = Trial(workload, dense, images, seed, options.precision)
        every = list(every_point(trial, options, budgets, names, trained_on))
        wanted = every if options.again else points.missing(every)
        for point in track(wanted, total=len(wanted), label=f"seed {seed}"):
            method = methods[point["method"]]
            try:
                found = measure(trial, method, point["budget"], options.epochs)
            except GoalMissed as error:
                missed.append(f"{point['budget']}, seed {seed}: {error}")
                continue
            points.add(point | found | machine())
            print(told(point | found, ACCURACIES), flush=True)
    return missed


def checked(budgets: Sequence[str]) -> list[str]:
    """The budgets in one spelling.

    Raises
    ------
    BudgetError : one cannot be read, or only this project's own method can meet it.
    """
    for text in budgets:
        if parse_budget(text).kind in UNBOUNDED:
            raise BudgetError(
                f"--budgets: {text} cannot be met by every method.\n"
                "Expected ratio, params or macs, such as macs:0.5."
            )
    return [str(parse_budget(text)) for text in budgets]


def every_point(
    trial: Trial,
    options: argparse.Namespace,
    budgets: Sequence[str],
    methods: Iterable[str],
    dense_images: int,
) -> Iterator[Point]:
    """The keys of all points of a trial."""
    for budget in budgets:
        for method in methods:
            yield {
                "workload": options.workload,
                "budget": budget,
                "images": len(trial.images.calibration),
                "dense_images": dense_images,
                "train_images": len(trial.images.training),
                "test_images": len(trial.images.test),
                "epochs": options.epochs,
                "precision": options.precision,
                "method": method,
                "seed": trial.seed,
            }


def machine() -> Point:
    return {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": listed(versions()),
    }


def show(points: Sequence[Point]) -> None:
    """Print a table for each setting."""
    for settings in settings_of(points):
        own = under(points, settings)
        print(f"\n{heading(settings)}")
        print_table(table(own, NAMES))
        print("\n".join(verdicts(own)))


if __name__ == "__main__":
    main()
