"""`drop:1.0` beside fixed budgets: what it finds, and how far the test accuracy falls.

A point is a budget of one network, refitted, with no training: the drop, which is told by training
images that are held out of calibration, or one of ten fixed shares of the MACs. With --write a run
that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.accuracy.workloads import CPU, WORKLOADS, Images, dense_network, load_images
from benchmarks.shared.command import add_again, add_data_root, circumstances, parse, parser
from benchmarks.shared.kept import RESULTS, Point, Points
from benchmarks.shared.origin import measured_now, origin_of
from benchmarks.shared.tables import markdown_of, print_table, two_digits
from mipp.metrics import accuracy
from mipp.process.allocator import keep_freed_memory
from mipp.progress import track
from mipp.pruning.planner import parsed
from mipp.pruning.pruner import Pruner

FILE, PAGE = RESULTS / "dropped.csv", Path("docs/dropped.md")
NETWORKS = ("lenet5", "resnet20", "vgg11-bn", "cct", "mobilenet")
DROP = "drop:1.0"
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)
CALIBRATION, VALIDATION, BATCH = 2048, 5000, 500
KEY = ("workload", "budget")
COLUMNS = (*KEY, "dense_images", "found", "tried", "macs", "params", "validation_fall",
           "most_fallen", "test_fall", "test_dense", "commit", "versions")  # fmt: skip
NOTES = f"""\
`mipp.prune(..., "{DROP}", validation=...)`: the smallest network, to a 64th of the MACs, whose
accuracy falls by at most a point with 90 % confidence, refitted and not trained. {CALIBRATION:,}
calibration images, seed 0; *trained on*: so many images, where the dense network is not given.
*validation*: {VALIDATION:,} training images that calibration has none of, but which the dense
network was trained on. *fell*: percentage points below the dense network; *at most*: the limit that
the search goes by. *test*: the 10,000 test images, which no search has seen. *best fixed*: of the
ten budgets below the smallest whose *test* accuracy falls by at most a point, which nobody knows
beforehand."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("accuracy.dropped", __doc__ or "", PAGE)
    add_data_root(options)
    add_again(options)
    options.add_argument("--workloads", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    options.add_argument("--dense-images", type=int, help="that train the dense network, the first")
    options.add_argument("--test-images", type=int, help="the first, for a quick trial")
    return parse(options, given, fixed=("test_images",))


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    points = points_in(FILE if options.write else None)
    for workload in options.workloads:
        every = [dict(zip(KEY, (workload, budget), strict=True)) for budget in budgets()]
        wanted = every if options.again else points.missing(every)
        if wanted:
            trial = Trial(options, workload)
            for point in track(wanted, total=len(wanted), label=workload):
                points.add(point | trial.measure(point["budget"]))
    print_table(table(points.all()))
    circumstances(options)
    if options.write:
        write_page()


def budgets() -> list[str]:
    """The drop, then the fixed ones."""
    return [DROP, *(f"macs:{share:g}" for share in SHARES)]


class Trial:
    """A dense network with a measurement of its units, and the images that judge."""

    def __init__(self, options: argparse.Namespace, name: str) -> None:
        workload, root = WORKLOADS[name], options.data_root
        images = load_images(workload, root, CALIBRATION, seed=0)
        self._images: Images = images.limited(options.dense_images, options.test_images)
        self._trained_on = len(self._images.training) if workload.training else 0
        dense = dense_network(workload, self._images, root, Path("runs/accuracy"))
        self._validation: list[tuple[Tensor, Tensor]] = list(
            self._images.training.first(VALIDATION).batches(BATCH)
        )
        self._pruner = Pruner(dense, images.calibration.batches(BATCH), images=CALIBRATION)
        self._ranking = self._pruner.rank()
        self._dense = self._percent(dense)

    def measure(self, budget: str) -> Point:
        """What a budget comes to; of a drop, what the search found too."""
        pruner, ranking = self._pruner, self._ranking
        asked = parsed(budget)
        searched: Point = {}
        if asked.is_searched:
            pruned = pruner.smallest(asked.value, self._validation, ranking=ranking)
            search = pruned.report.search
            assert search is not None
            found = min((t for t in search.trials if t.enough), key=lambda t: t.budget.value)
            searched = {
                "found": str(found.budget),
                "tried": len(search.trials),
                "validation_fall": search.dense - found.value,
                "most_fallen": found.fallen,
            }
        else:
            pruned = pruner.cut(pruner.plan(asked, ranking))
        report = pruned.report
        return (
            searched
            | {
                "dense_images": self._trained_on,
                "macs": 100 * report.macs / report.macs_dense,
                "params": 100 * report.params / report.params_dense,
                "test_fall": self._dense - self._percent(pruned.model),
                "test_dense": self._dense,
            }
            | measured_now()
        )

    def _percent(self, model: nn.Module) -> float:
        return 100 * accuracy(model, self._images.test, batch_size=BATCH, device=CPU)


def points_in(file: Path | None) -> Points:
    return Points(file, COLUMNS, KEY)


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each network whose drop is measured."""
    return list(_rows(points))


def _rows(points: Sequence[Point]) -> Iterator[dict[str, Any]]:
    for point in (p for p in points if p["budget"] == DROP):
        fixed = [p for p in points if p["workload"] == point["workload"] and p is not point]
        good = [p for p in fixed if p["test_fall"] <= parsed(DROP).value]
        best = min(good, key=lambda p: p["macs"], default=None)
        yield {
            "network": point["workload"],
            "trained on": point["dense_images"] or None,
            "dense %": point["test_dense"],
            "found": point["found"],
            "MACs %": point["macs"],
            "validation: fell": point["validation_fall"],
            "at most": point["most_fallen"],
            "test: fell": point["test_fall"],
            "best fixed": best and best["budget"],
            "its MACs %": best and best["macs"],
            "its test: fell": best and best["test_fall"],
        }


def write_page() -> None:
    """Write the page from all points that are kept."""
    points = points_in(FILE).all()
    lines = [
        "# The smallest network that loses at most a point",
        "",
        origin_of("accuracy.dropped", FILE, points),
        "",
        NOTES,
        "",
        *markdown_of(table(points), two_digits),
        "",
        "How far the test accuracy falls at every fixed budget:",
        "",
        *markdown_of(falls(points), two_digits),
    ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n")


def falls(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each network, a column for each fixed budget."""
    found = {(p["workload"], p["budget"]): p["test_fall"] for p in points}
    networks = dict.fromkeys(p["workload"] for p in points)
    return [
        {"network": name} | {budget: found.get((name, budget)) for budget in budgets()[1:]}
        for name in networks
    ]


if __name__ == "__main__":
    main()
