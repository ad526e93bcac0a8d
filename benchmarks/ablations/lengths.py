"""How long filters before a batch-norm are to be after a refit, for fine-tuning to start there.

ResNet-20 on CIFAR-10-JPEG at macs:0.3, two epochs; seeds 0 to 2 are those of docs/accuracy.md. The
network computes the same at every length. The table is in docs/experiments.md; it holds what was
removed too, and Torch-Pruning's network under it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from statistics import mean
from unittest import mock

import torch

from benchmarks.accuracy.methods import Trial, by_information
from benchmarks.accuracy.untrained import summary
from benchmarks.accuracy.workloads import WORKLOADS, dense_network, load_images
from benchmarks.shared.points import add_point, read_points
from mipp.refit import refit

WORKLOAD, BUDGET, EPOCHS = "resnet20", "macs:0.3", 2
RESULTS = Path("benchmarks/results/lengths.csv")
RIVAL = "Torch-Pruning LAMP, layer, recalibrated"
LENGTHS = ("as the refit leaves them", "as before the refit (the default)")
COLUMNS = ("length", "seed", "start", "finetuned")
Point = dict[str, str]


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data-root", help="folder with cifar10-jpeg/ and checkpoints/")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    options.add_argument("--lengths", nargs="+", choices=LENGTHS, default=LENGTHS)
    options.add_argument("--threads", type=int, default=1)
    return options.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        known = {point["length"] for point in read_points(RESULTS) if int(point["seed"]) == seed}
        trial = None
        for length in options.lengths:
            if length in known:
                continue
            trial = trial or trial_of(options, seed)
            point = measure(trial, length)
            add_point(RESULTS, COLUMNS, point)
            print(*point.values(), sep=", ", flush=True)
    print(*section(), sep="\n")


def trial_of(options: argparse.Namespace, seed: int) -> Trial:
    workload, root = WORKLOADS[WORKLOAD], options.data_root
    images = load_images(workload, root, options.images, seed)
    return Trial(
        workload, dense_network(workload, images, root, Path("runs/accuracy")), images, seed
    )


def measure(trial: Trial, length: str) -> Point:
    cut = by_information(trial, BUDGET)
    assert cut.selection is not None
    with contextlib.ExitStack() as stack:
        if length == LENGTHS[0]:  # no parameter turns this off: it is only worth a line here
            refits = sys.modules[refit.__module__]
            stack.enter_context(mock.patch.object(refits, "restore_lengths"))
        start = trial.refitted(cut.model, cut.selection)
    tuned = trial.finetuned(start, EPOCHS)
    found = {"start": trial.percent(start), "finetuned": trial.percent(tuned)}
    return {"length": length, "seed": str(trial.seed), **{k: f"{v:.2f}" for k, v in found.items()}}


def section() -> list[str]:
    """The table of docs/experiments.md."""
    points = read_points(RESULTS)
    seeds = sorted({int(point["seed"]) for point in points})
    lines = [
        f"The length of filters before a batch-norm ({WORKLOAD}, `{BUDGET}`, "
        f"{EPOCHS} epochs of fine-tuning, seeds {', '.join(map(str, seeds))}; "
        f"`python -m benchmarks.ablations.lengths`, `{RESULTS}`):",
        "",
        "| length | seeds | before % | fine-tuned % | gain, same seeds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for length in dict.fromkeys([*LENGTHS, *(point["length"] for point in points)]):
        base = RIVAL if length.startswith(RIVAL) else LENGTHS[0]
        tuned, plain = by_seed(points, length, "finetuned"), by_seed(points, base, "finetuned")
        gains = [value - plain[seed] for seed, value in tuned.items() if seed in plain]
        started = by_seed(points, length, "start").values()
        gone = "" if length in LENGTHS or length == base else " (removed)"
        lines.append(
            f"| {length}{gone} | {len(tuned)} | {summary([*started])} "
            f"| {summary([*tuned.values()])} | {mean(gains):+.2f} |"
        )
    return lines


def by_seed(points: list[Point], length: str, column: str) -> dict[str, float]:
    return {p["seed"]: float(p[column]) for p in points if p["length"] == length}


if __name__ == "__main__":
    main()
