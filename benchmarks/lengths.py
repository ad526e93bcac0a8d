"""How long filters before a batch-norm are to be after a refit, for fine-tuning to start there.

ResNet-20 on CIFAR-10-JPEG at macs:0.3, two epochs; seeds 0 to 2 are those of docs/accuracy.md. The
network computes the same at every length; the best of Torch-Pruning's is given shorter filters
too, as a control. The table is in docs/experiments.md.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from unittest import mock

import torch
from torch import nn

from benchmarks.accuracy_methods import METHODS, Trial, by_information
from benchmarks.accuracy_workloads import WORKLOADS, dense_network, load_images
from benchmarks.untrained import summary
from mipp.graph import build_graph
from mipp.refit import refit
from mipp.refit.filter_lengths import filter_lengths, restore_lengths

WORKLOAD, BUDGET, EPOCHS = "resnet20", "macs:0.3", 2
RESULTS = Path("benchmarks/results/lengths.csv")
RIVAL = "Torch-Pruning LAMP, layer"
LENGTHS: dict[str, float | None] = {  # shares of the length before the refit
    "as the refit leaves them": None,
    "as before the refit": 1.0,
    "0.7 of that (the default)": 0.7,
    f"{RIVAL}, recalibrated": None,
    f"{RIVAL}, recalibrated, 0.7": 0.7,
}
COLUMNS = ("length", "seed", "start", "finetuned")
Point = dict[str, str]


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data-root", help="folder with cifar10-jpeg/ and checkpoints/")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    options.add_argument("--lengths", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    options.add_argument("--threads", type=int, default=1)
    return options.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        known = {point["length"] for point in read() if int(point["seed"]) == seed}
        trial = None
        for length in options.lengths:
            if length in known:
                continue
            trial = trial or trial_of(options, seed)
            point = measure(trial, length)
            add(point)
            print(*point.values(), sep=", ", flush=True)
    print(*section(), sep="\n")


def trial_of(options: argparse.Namespace, seed: int) -> Trial:
    workload, root = WORKLOADS[WORKLOAD], options.data_root
    images = load_images(workload, root, options.images, seed)
    return Trial(
        workload, dense_network(workload, images, root, Path("runs/accuracy")), images, seed
    )


def measure(trial: Trial, length: str) -> Point:
    with at_length(LENGTHS[length]):
        start = rival_start(trial, length) if length.startswith(RIVAL) else refit_start(trial)
    tuned = trial.finetuned(start, EPOCHS)
    found = {"start": trial.percent(start), "finetuned": trial.percent(tuned)}
    return {"length": length, "seed": str(trial.seed), **{k: f"{v:.2f}" for k, v in found.items()}}


def refit_start(trial: Trial) -> nn.Module:
    cut = by_information(trial, BUDGET)
    assert cut.selection is not None
    return trial.refitted(cut.model, cut.selection)


def rival_start(trial: Trial, length: str) -> nn.Module:
    """The rival's network, its filters given the same share of their length as a refit's."""
    method = next(method for method in METHODS if method.name == RIVAL)
    model = trial.recalibrated(method.cut(trial, BUDGET).model)
    if LENGTHS[length] is not None:
        norms = build_graph(model, trial.example).norm_after
        restore_lengths(model, filter_lengths(model, norms), norms, trial.example)
    return model


@contextlib.contextmanager
def at_length(share: float | None) -> Iterator[None]:
    """Refits under another share than the default, or none."""
    if share is not None:
        with mock.patch("mipp.refit.filter_lengths.SHARE", share):
            yield
        return
    with mock.patch.object(sys.modules[refit.__module__], "restore_lengths"):
        yield


def read() -> list[Point]:
    """All points; a run that was cut short goes on where it stopped."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def add(point: Point) -> None:
    fresh = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(point)


def section() -> list[str]:
    """The table of docs/experiments.md."""
    points = read()
    seeds = sorted({int(point["seed"]) for point in points})
    lines = [
        f"The length of filters before a batch-norm ({WORKLOAD}, `{BUDGET}`, "
        f"{EPOCHS} epochs of fine-tuning, seeds {', '.join(map(str, seeds))}; "
        f"`python -m benchmarks.lengths`, `{RESULTS}`):",
        "",
        "| length | seeds | before % | fine-tuned % | gain, same seeds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for length in dict.fromkeys([*LENGTHS, *(point["length"] for point in points)]):
        base = f"{RIVAL}, recalibrated" if length.startswith(RIVAL) else next(iter(LENGTHS))
        tuned, plain = by_seed(points, length, "finetuned"), by_seed(points, base, "finetuned")
        if not tuned:
            continue
        gains = [value - plain[seed] for seed, value in tuned.items() if seed in plain]
        started = by_seed(points, length, "start").values()
        gone = "" if length in LENGTHS else " (removed)"
        lines.append(
            f"| {length}{gone} | {len(tuned)} | {summary([*started])} "
            f"| {summary([*tuned.values()])} | {mean(gains):+.2f} |"
        )
    return lines


def by_seed(points: list[Point], length: str, column: str) -> dict[str, float]:
    return {p["seed"]: float(p[column]) for p in points if p["length"] == length}


if __name__ == "__main__":
    main()
