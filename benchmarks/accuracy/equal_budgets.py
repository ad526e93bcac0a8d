"""Test accuracy at equal budgets: this project beside every criterion of Torch-Pruning.

Each point (method, budget, seed) is kept in a CSV file when it is finished, so that a run that is
cut short goes on where it stopped; `--again` computes those asked for anew. `--page` writes
docs/accuracy.md from all points in that file, and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.accuracy.methods import METHODS, Method, Trial, measure, methods_for
from benchmarks.accuracy.page import write_page
from benchmarks.accuracy.results import (
    ACCURACIES,
    Point,
    add,
    heading,
    key,
    read,
    settings_of,
    table,
    under,
    verdicts,
)
from benchmarks.accuracy.workloads import WORKLOADS, Workload, dense_network, load_images
from benchmarks.rivals.torch_pruning import GoalMissed
from benchmarks.shared.workload import PACKAGES, finish, parser, print_table
from mipp.allocator import keep_freed_memory
from mipp.budget import parse_budget
from mipp.errors import BudgetError, DataError
from mipp.selection.spending import UNBOUNDED

RESULTS = Path("benchmarks/results/accuracy.csv")
NAMES = [method.name for method in METHODS]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("accuracy", (__doc__ or "").partition("\n")[0])
    options.add_argument("--workload", choices=WORKLOADS, default="resnet20")
    options.add_argument("--budgets", nargs="+", help="such as macs:0.3 (without: the workload's)")
    options.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of calibration and of fine-tuning"
    )
    options.add_argument("--epochs", type=int, default=2, help="of fine-tuning, 0 for none")
    options.add_argument("--methods", nargs="+", default=["*"], help="names, or patterns with *")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--train-images", type=int, help="of fine-tuning, the first")
    options.add_argument("--test-images", type=int, help="the first, for a quick trial")
    options.add_argument("--dense-images", type=int, help="that train the dense network, the first")
    options.add_argument("--results", type=Path, default=RESULTS, help="CSV file of the points")
    options.add_argument(
        "--cache", type=Path, default=Path("runs/accuracy"), help="folder of dense networks"
    )
    options.add_argument("--again", action="store_true", help="compute finished points anew")
    options.add_argument("--page", action="store_true", help="only write the page")
    return options.parse_args(given)


def main() -> None:
    options = arguments()
    if options.page:
        write_page(options.results, NAMES)
        return
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    try:
        missed = run(WORKLOADS[options.workload], options)
    except (BudgetError, DataError) as error:
        sys.exit(str(error))
    show(options)
    if missed:
        sys.exit("\n".join(["", "These points are missing:", *missed]))


def run(workload: Workload, options: argparse.Namespace) -> list[str]:
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
    methods = chosen(methods_for(dense, options.epochs), options.methods)
    known = set() if options.again else {key(point) for point in read(options.results)}
    missed = []
    for seed in options.seeds:
        images = load_images(workload, root, options.images, seed)
        images = images.limited(options.train_images, options.test_images)
        trial = Trial(workload, dense, images, seed)
        for point, method in every_point(trial, options, budgets, methods):
            point["dense_images"] = trained_on
            if key(point) in known:
                continue
            try:
                point |= measure(trial, method, point["budget"], options.epochs)
            except GoalMissed as error:
                missed.append(f"{point['budget']}, seed {seed}: {error}")
                continue
            add(options.results, point | circumstances())
            print(told(point), flush=True)
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


def chosen(methods: Sequence[Method], patterns: Sequence[str]) -> list[Method]:
    """The methods whose names fit a pattern; ends the program where a pattern fits none."""
    for pattern in patterns:
        if not any(fnmatchcase(method.name, pattern) for method in methods):
            names = "\n  ".join(method.name for method in methods)
            sys.exit(f"--methods: {pattern!r} fits none of\n  {names}")
    return [m for m in methods if any(fnmatchcase(m.name, pattern) for pattern in patterns)]


def every_point(
    trial: Trial, options: argparse.Namespace, budgets: Sequence[str], methods: Sequence[Method]
) -> Iterator[tuple[Point, Method]]:
    """The keys of all points of a trial, with the method of each."""
    for budget in budgets:
        for method in methods:
            yield (
                {
                    "workload": options.workload,
                    "budget": budget,
                    "images": len(trial.images.calibration),
                    "train_images": len(trial.images.training),
                    "test_images": len(trial.images.test),
                    "epochs": options.epochs,
                    "method": method.name,
                    "seed": trial.seed,
                },
                method,
            )


def told(point: Point) -> str:
    """A finished point on one line."""
    found = [f"{title} {point[name]:.2f}" for name, title in ACCURACIES.items() if name in point]
    where = f"{point['budget']}, seed {point['seed']}, {point['method']}"
    return f"{where}: MACs {point['macs']:.1f} %, {', '.join(found)}"


def circumstances() -> Point:
    versions = [f"{package} {metadata.version(package)}" for package in PACKAGES]
    return {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": ", ".join([f"python {platform.python_version()}", *versions]),
    }


def show(options: argparse.Namespace) -> None:
    """Print a table for each setting of the workload, and write them where asked to."""
    points = [p for p in read(options.results) if p["workload"] == options.workload]
    tables = {}
    for settings in settings_of(points):
        title = heading(settings)
        own = under(points, settings)
        tables[title] = table(own, NAMES)
        print(f"\n{title}")
        print_table(tables[title])
        print("\n".join(verdicts(own)))
    finish("accuracy", {"tables": tables, "points": points}, options.out)


if __name__ == "__main__":
    main()
