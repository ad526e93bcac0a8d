"""How long filters before a batch-norm are to be after a refit, for fine-tuning to start there.

ResNet-20 on CIFAR-10-JPEG at macs:0.3, two epochs; seeds 0 to 2 are those of docs/accuracy.md. The
network computes the same at every length. The page holds what was removed too, and
Torch-Pruning's network under it. With --write a run that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.ablations.experiments_page import (
    IMAGES,
    LENGTH_BUDGET,
    LENGTH_EPOCHS,
    LENGTH_NETWORK,
    LENGTHS,
    LENGTHS_FILE,
    PAGE,
    length_points,
    write_page,
)
from benchmarks.accuracy.methods import Trial, by_information
from benchmarks.accuracy.workloads import WORKLOADS, dense_network, load_images
from benchmarks.shared.command import add_again, add_data_root, circumstances, parse, parser
from benchmarks.shared.kept import Point
from benchmarks.shared.tables import print_table
from mipp.progress import track


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("ablations.lengths", __doc__ or "", PAGE)
    add_data_root(options)
    add_again(options)
    options.add_argument("--images", type=int, default=IMAGES, help="calibration images")
    options.add_argument("--train-images", type=int, help="of fine-tuning, the first")
    options.add_argument("--test-images", type=int, help="the first, for a quick trial")
    options.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5], help="of everything"
    )
    options.add_argument(
        "--lengths", nargs="+", choices=LENGTHS, default=[*LENGTHS], help="to fine-tune from"
    )
    return parse(options, given, fixed=("images", "train_images", "test_images"))


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    points = length_points(LENGTHS_FILE if options.write else None)
    for seed in track(options.seeds, total=len(options.seeds), label="seeds"):
        every = [{"length": length, "seed": seed} for length in options.lengths]
        wanted = every if options.again else points.missing(every)
        trial = trial_of(options, seed) if wanted else None
        for point in wanted:
            assert trial is not None
            points.add(point | measure(trial, point["length"]))
    print_table(points.all())
    circumstances(options)
    if options.write:
        write_page()


def trial_of(options: argparse.Namespace, seed: int) -> Trial:
    workload, root = WORKLOADS[LENGTH_NETWORK], options.data_root
    images = load_images(workload, root, options.images, seed)
    dense = dense_network(workload, images, root, Path("runs/accuracy"))
    return Trial(workload, dense, images.limited(options.train_images, options.test_images), seed)


def measure(trial: Trial, length: str) -> Point:
    cut = by_information(trial, LENGTH_BUDGET)
    assert cut.selection is not None
    start = trial.refitted(cut.model, cut.selection, LENGTHS[length])
    tuned = trial.finetuned(start, LENGTH_EPOCHS)
    return {"start": trial.percent(start), "finetuned": trial.percent(tuned)}


if __name__ == "__main__":
    main()
