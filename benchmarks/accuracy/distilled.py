"""What distillation adds to the refit, by the number of calibration images; no labels, no training.

A point is a number of images and a seed, which draws them, under a budget: one selection, refitted,
then distilled too. With --write a run that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.accuracy.workloads import CPU, WORKLOADS, Images, dense_network, load_images
from benchmarks.shared.command import add_data_root, parse
from benchmarks.shared.kept import Point
from benchmarks.shared.point_table import PointTable
from benchmarks.shared.tables import spread
from mipp.metrics import accuracy
from mipp.pruning.pruner import Pruner
from mipp.settings import Distill, Refit

NETWORK, BATCH = "resnet20", 256
KEY = ("budget", "images", "seed")
COLUMNS = ("macs", "refit", "distilled", "cpu_seconds", "threads")
NOTES = f"""\
{NETWORK} on CIFAR-10-JPEG: percent of the 10,000 test images, mean ± standard deviation over the
seeds, each with calibration images of its own. No label is seen. *refit*: `mipp.Refit()`;
*distilled*: `mipp.Distill()` of the same selection, which goes on from the refit. *CPU s*: of the
distillation with its refit, all threads, on machines that were not quiet. The settings were chosen
on calibration images that are held out, with seed 0 and 2,048 images."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = KEPT.parser(__doc__)
    add_data_root(options)
    options.add_argument("--budgets", nargs="+", default=["macs:0.5", "macs:0.3"], help="of MACs")
    options.add_argument(
        "--images", type=int, nargs="+", default=[2048, 256, 64], help="of each run"
    )
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of calibration")
    options.add_argument("--test-images", type=int, help="the first, for a quick trial")
    return parse(options, given, fixed=("test_images",))


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    every = [
        (budget, images, seed)
        for seed in options.seeds
        for images in options.images
        for budget in options.budgets
    ]
    KEPT.run(options, every, lambda point: measure(options, point))


def measure(options: argparse.Namespace, point: Point) -> Point:
    """Accuracies of one point in percent, and seconds."""
    workload, root = WORKLOADS[NETWORK], options.data_root
    found = load_images(workload, root, point["images"], point["seed"])
    found = found.limited(None, options.test_images)
    dense = dense_network(workload, found, root, Path("runs/accuracy"))
    loader = list(found.calibration.batches(BATCH))
    pruner = Pruner(dense, loader, images=point["images"], seed=point["seed"])
    plan = pruner.plan(point["budget"])
    refitted = pruner.cut(plan, Refit())
    started = time.process_time()
    distilled = pruner.cut(plan, Distill())
    return {
        "cpu_seconds": time.process_time() - started,
        "threads": options.threads,
        "macs": 100 * refitted.report.macs / refitted.report.macs_dense,
        "refit": _percent(refitted.model, found),
        "distilled": _percent(distilled.model, found),
    }


def _percent(model: nn.Module, images: Images) -> float:
    return 100 * accuracy(model, images.test, batch_size=500, device=CPU)


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each budget and number of images, the largest first."""
    rows = []
    for budget, images in sorted({(p["budget"], p["images"]) for p in points}, reverse=True):
        own = [p for p in points if (p["budget"], p["images"]) == (budget, images)]
        rows.append(
            {
                "budget": budget,
                "images": images,
                "seeds": " ".join(str(seed) for seed in sorted(p["seed"] for p in own)),
                "MACs %": spread(p["macs"] for p in own),
                "refit %": spread(p["refit"] for p in own),
                "distilled %": spread(p["distilled"] for p in own),
                "gain": spread(p["distilled"] - p["refit"] for p in own),
                "CPU s": spread(p["cpu_seconds"] for p in own),
            }
        )
    return rows


KEPT = PointTable("accuracy.distilled", "Distilled without labels", NOTES, KEY, COLUMNS, table)
write_page = KEPT.write_page

if __name__ == "__main__":
    main()
