"""One-shot pruning beside rounds, with and without the dense network as a teacher, at equal epochs.

A point is a run of the pipeline from one trained network. With --write a run that is cut short
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.trial_options import add_precision
from benchmarks.shared.command import add_data_root, parse
from benchmarks.shared.kept import Point
from benchmarks.shared.point_table import PointTable
from benchmarks.shared.tables import spread
from benchmarks.shared.workload import IMAGES, find_checkpoint
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.errors import DataError
from mipp.stages import preflight, run_all
from mipp.stages.files import read_json

NETWORK = "resnet20"
WAYS = ("one-shot", "one-shot, distilled", "cubic:3", "cubic:3, distilled")
RATE = 0.05  # of learning, at its highest
DISTILL = 0.5  # of the loss, by the dense network's answers; the rest by the labels
KEY = ("budget", "epochs", "images", "precision", "way", "seed")
COLUMNS = ("macs", "accuracy_dense", "accuracy", "cpu_seconds", "threads")
NOTES = f"""\
{NETWORK} on CIFAR-10-JPEG, from one trained network: percent of the 10,000 test images, mean ±
standard deviation over seeds. *one-shot*: pruned to the budget, refitted, trained. *cubic:3*: in
three rounds (`finetune.rounds`, `finetune.round_budgets`), each measured, cut, refitted and trained
for a third of the epochs, by a learning rate of its own. *distilled*: the dense network teaches,
too (`finetune.distill={DISTILL}`). The learning rate rises to {RATE}, in docs/accuracy.md to less.
*images*: that each epoch trains on. *CPU s*: of the stages that ran, evaluation among them; the
first point of a seed extracts and estimates for all of them."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = KEPT.parser(__doc__)
    add_data_root(options)
    options.add_argument("--budgets", nargs="+", default=["macs:0.3"], help="of MACs")
    options.add_argument(
        "--ways",
        nargs="+",
        default=list(WAYS),
        help="one-shot or SCHEDULE:K, also with ', distilled'",
    )
    options.add_argument("--epochs", type=int, default=30, help="of all rounds together")
    add_precision(options)
    options.add_argument("--images", type=int, default=50_000, help="for training, the first")
    options.add_argument("--seeds", type=int, nargs="+", default=[0], help="of everything")
    options.add_argument(
        "--workdir", type=Path, default=Path("runs/rounds"), help="folder of the runs"
    )
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    every = [
        (budget, options.epochs, options.images, options.precision, way, seed)
        for seed in options.seeds
        for budget in options.budgets
        for way in options.ways
    ]
    KEPT.run(options, every, lambda point: measure(options, point))


def measure(options: argparse.Namespace, point: Point) -> Point:
    """One run of the pipeline; those of a seed share the dense network and its activations."""
    params = load_params(None, overrides(options.data_root, point))
    workdir = Workdir(options.workdir / f"seed{point['seed']}-{point['images']}")
    preflight(workdir, params)
    started = time.process_time()
    run_all(workdir, params)
    metrics = read_json(workdir.folder / "evaluate/metrics.json")
    return {
        "macs": 100 * metrics["macs"] / metrics["macs_dense"],
        "accuracy_dense": 100 * metrics["accuracy_dense"],
        "accuracy": 100 * metrics["accuracy_finetuned"],
        "cpu_seconds": time.process_time() - started,
        "threads": options.threads,
    }


def overrides(root: str | None, point: Point) -> list[str]:
    """Parameters of a point.

    Raises
    ------
    DataError : the trained network is not there.
    """
    weights = find_checkpoint(root, NETWORK)
    if weights is None:
        raise DataError(f"no checkpoint of {NETWORK}; give --data-root, or set MIPP_DATA.")
    way, _, distilled = point["way"].partition(", ")
    schedule, _, rounds = way.partition(":")
    told = [f"finetune.rounds={rounds}", f"finetune.round_budgets={schedule}"] if rounds else []
    told += [f"finetune.distill={DISTILL}"] if distilled else []
    return [
        "data.name=parquet",
        *([f"data.root={Path(root) / IMAGES}"] if root else []),
        f"data.limit={point['images']}",
        "data.augment=crop-flip",
        "data.validation=0",
        "data.calibration=2048",
        f"model.name={NETWORK}",
        f"model.weights={weights}",
        "train.epochs=0",
        f"choose.budget={point['budget']}",
        f"finetune.epochs={point['epochs']}",
        "finetune.batch_size=128",
        f"finetune.lr={RATE}",
        f"finetune.precision={point['precision']}",
        "evaluate.export=[]",
        f"seed={point['seed']}",
        *told,
    ]


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each budget, number of epochs and of images, and way."""
    rows = []
    for key in dict.fromkeys(tuple(p[name] for name in KEY[:-1]) for p in points):
        own = [p for p in points if tuple(p[name] for name in KEY[:-1]) == key]
        rows.append(
            dict(zip(KEY[:-1], key, strict=True))
            | {
                "seeds": " ".join(str(seed) for seed in sorted(p["seed"] for p in own)),
                "MACs %": spread(p["macs"] for p in own),
                "dense %": spread(p["accuracy_dense"] for p in own),
                "fine-tuned %": spread(p["accuracy"] for p in own),
                "CPU s": spread(p["cpu_seconds"] for p in own),
            }
        )
    return rows


KEPT = PointTable("accuracy.rounds", "One-shot, and in rounds", NOTES, KEY, COLUMNS, table)
write_page = KEPT.write_page

if __name__ == "__main__":
    main()
