"""Search over widths as a rival: evolution and a one-shot ranking at equal seconds, on digits.

LeNet-5, trained on the embedded digits. mipp's seconds are those of its whole pruning but for the
graph, which all share; the rivals have as many, three times and ten times as many.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rivals.evolution import Looked, Widths, evolved, ranked, refitted
from benchmarks.shared.command import parse
from benchmarks.shared.kept import Point
from benchmarks.shared.point_table import PointTable
from benchmarks.shared.tables import spread
from mipp.budget import parse_budget
from mipp.config import DataConfig, TrainConfig
from mipp.data import DataSplits, load_data
from mipp.graph import IntArray
from mipp.metrics import accuracy, accuracy_and_loss
from mipp.models import ModelSpec, build_model, preferred_input
from mipp.pruning.pruner import Pruner
from mipp.pruning.ranking import ScoreRanking
from mipp.training import train

CPU, BATCH, MODEL = torch.device("cpu"), 256, "lenet5"
TIMES = (1, 3, 10)
OWN, WIDTHS = "mipp", "mipp's widths, units by l1"
EVOLVED = {f"evolution, {t} x the seconds": t for t in TIMES}
RANKED = {f"one-shot ranking, {t} x the seconds": t for t in TIMES[:1]}
WAYS = (OWN, WIDTHS, *EVOLVED, *RANKED)
KEY = ("budget", "way", "seed")
COLUMNS = ("accuracy", "networks", "cpu_seconds", "widths")
NOTES = """\
LeNet-5 on the embedded digits, accuracy in percent on 360 test images after the refit, without
training; mean and deviation over seeds of training, split and search. *evolution*: regularised
evolution over the widths, each candidate refitted and judged by its cross entropy on 143 validation
images, which mipp does not see; *one-shot ranking*: random widths ranked by SNIP's score of the cut
network, in PreNAS's manner. Which units of a group stay is `l1`'s choice in both, as in the second
row. *networks*: looked at. *seconds*: CPU seconds of one thread; a search ends after the network
in which its time runs out, so that it may have up to one network's more. One test image is 0.28
points: the widths that evolution and mipp come to are not told apart here, nor by more time."""


@dataclass(frozen=True)
class Arena:
    """A network that is pruned, and what judges it."""

    pruner: Pruner
    order: dict[str, IntArray]  # of each group's units, the best first
    splits: DataSplits
    batch: tuple[Tensor, Tensor]

    def score(self, model: nn.Module) -> float:
        """Less the cross entropy of the validation images."""
        split = self.splits.validation
        return -accuracy_and_loss(model, split, batch_size=BATCH, device=CPU)[1]

    def tested(self, model: nn.Module) -> float:
        return 100 * accuracy(model, self.splits.test, batch_size=BATCH, device=CPU)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = KEPT.parser(__doc__)
    options.add_argument("--budgets", nargs="+", default=["macs:0.3", "macs:0.15"])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    every = [
        (budget, way, seed)
        for seed in options.seeds
        for budget in options.budgets
        for way in options.ways
    ]
    KEPT.run(options, every, lambda point: measure(**point))


def measure(budget: str, way: str, seed: int) -> Point:
    """One way to come to a network under the budget."""
    arena = arena_of(seed)
    own, widths, seconds = by_mipp(budget, seed)
    if way == OWN:
        return _point(arena.tested(own), Looked(widths, 1, seconds))
    if way == WIDTHS:
        found = Looked(widths, 1, seconds)
    elif way in EVOLVED:
        found = within(_evolution(budget, seed), EVOLVED[way] * seconds)
    else:
        pruner, order = arena.pruner, arena.order
        search = ranked(pruner, order, parse_budget(budget), arena.batch, seed)
        found = within(search, RANKED[way] * seconds)
    return _point(arena.tested(refitted(arena.pruner, found.widths, arena.order)), found)


def within(search: Iterator[Looked], seconds: float) -> Looked:
    """Where a search is when its time has run out."""
    return next(looked for looked in search if looked.seconds >= seconds)


def _point(right: float, found: Looked) -> Point:
    widths = " ".join(map(str, found.widths.values()))
    spent = {"networks": found.networks, "cpu_seconds": found.seconds}
    return {"accuracy": right, **spent, "widths": widths}


def _evolution(budget: str, seed: int) -> Iterator[Looked]:
    arena = arena_of(seed)
    return evolved(arena.pruner, arena.order, parse_budget(budget), arena.score, seed)


@lru_cache(maxsize=2)
def by_mipp(budget: str, seed: int) -> tuple[nn.Module, Widths, float]:
    """The network that mipp makes, its widths, and the CPU seconds that it takes."""
    arena = arena_of(seed)
    pruner = Pruner(arena.pruner.model, _images(arena.splits), seed=seed)
    _ = pruner.graph
    started = time.process_time()
    pruned = pruner.cut(pruner.plan(budget, pruner.rank()))
    seconds = time.process_time() - started
    return pruned.model, pruned.selection.counts(), seconds


@lru_cache(maxsize=1)
def arena_of(seed: int) -> Arena:
    """A network that is trained with this seed, and what its rivals need."""
    channels, size = preferred_input(MODEL)
    splits = load_data(DataConfig(), seed=seed, channels=channels, size=size)
    spec = ModelSpec(MODEL, splits.classes, splits.shape[0], splits.shape[1])
    model = build_model(spec, seed=seed)
    train(model, splits.train, splits.validation, TrainConfig(), seed=seed, device=CPU)
    pruner = Pruner(model, _images(splits), seed=seed)
    ranking = pruner.rank("l1")
    assert isinstance(ranking, ScoreRanking)
    order = {name: (-ranking.scores[name]).argsort() for name in pruner.graph.groups}
    return Arena(pruner, order, splits, next(iter(splits.calibration.batches(BATCH))))


def _images(splits: DataSplits) -> list[Tensor]:
    return [images for images, _ in splits.calibration.batches(BATCH)]


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each budget and way."""
    rows = []
    for budget, way in dict.fromkeys((p["budget"], p["way"]) for p in points):
        own = [p for p in points if (p["budget"], p["way"]) == (budget, way)]
        rows.append(
            {
                "budget": budget,
                "way": way,
                "accuracy": spread(p["accuracy"] for p in own),
                "networks": f"{median(p['networks'] for p in own):g}",
                "seconds": f"{median(p['cpu_seconds'] for p in own):.1f}",
                "widths (the first seed's)": own[0]["widths"],
            }
        )
    return rows


KEPT = PointTable(
    "ablations.evolution", "Search over widths as a rival", NOTES, KEY, COLUMNS, table
)
write_page = KEPT.write_page

if __name__ == "__main__":
    main()
