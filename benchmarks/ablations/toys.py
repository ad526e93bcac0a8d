"""TERC's two toy sets with every estimator: which of them see what no bit tells alone.

Three fair bits tell together whether they are equal, A = [x1 = x2 = x3], and nothing alone. Of six
columns some are copies: TERC is to keep one of each bit. With --write a run that is cut short goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.ablations.measures import SETTINGS
from benchmarks.shared.command import fitting, parse
from benchmarks.shared.kept import Point
from benchmarks.shared.point_table import PointTable
from benchmarks.shared.tables import spread
from mipp.direct_settings import Variational
from mipp.errors import EstimationError
from mipp.information.estimators import ESTIMATORS, PairData
from mipp.information.protocols import PairInformation
from mipp.settings import Reconstruction

SETS = {"x1 copied three times more": (0, 0, 0, 0, 1, 2), "triple doubled": (0, 0, 1, 1, 2, 2)}
TRUTH = 2 * np.log(2) - 0.75 * np.log(3)  # the entropy of A, of which a quarter is true
ROWS = 1000
LEAST = 0.1  # nats: the last copy of a bit adds 0.347, another copy nothing
FEW: Mapping[type[Any], Mapping[str, Any]] = {  # settings other than by default
    Reconstruction: {"rows": ROWS * 4 // 5, "held_out": ROWS // 5},
    Variational: {"batch_size": 32, "steps": 150},
}
KEY = ("estimator", "set", "seed")
COLUMNS = ("kept", "valid", "nats", "seconds")
NOTES = f"""\
`A = [x1 = x2 = x3]` of fair bits, {ROWS:,} rows, six columns that are copies of the bits, in an
order drawn by the seed. Each is visited once and goes if it adds less than {LEAST:g} nats to those
that are there: the last copy of a bit adds 0.347, another copy nothing. *one of each*: runs that
kept one copy of each bit and nothing else. *nats*: of all six columns together; the truth is
{TRUTH:.4f}. *seconds*: of a run, the median, by the wall of a busy machine. No bit has any
correlation with A, so that what sees linear maps or single columns alone keeps nothing. Settings
are the defaults, but for the bounds' critics (batches of 32, 150 steps) and the perceptrons (800
rows train, 200 judge). `gaussian` and `reconstruction` see A through noise of 0.3 of its
variance."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = KEPT.parser(__doc__)
    options.add_argument("--estimators", nargs="+", metavar="PATTERN", help="by name, with *")
    options.add_argument("--seeds", type=int, nargs="+", default=[*range(10)])
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    every = [
        (name, toy, seed)
        for name in fitting("--estimators", options.estimators or ["*"], [*ESTIMATORS])
        for toy in SETS
        for seed in options.seeds
    ]
    KEPT.run(options, every, lambda p: measure(p["estimator"], p["set"], p["seed"]))


def measure(estimator: str, toy: str, seed: int) -> Point:
    """One run of one estimator; of one that refuses, nothing is kept and nats are empty."""
    x, y, bits = drawn(toy, seed)
    data = PairData(toy, ROWS, x.shape[1], 1, lambda: [(x.unsqueeze(2), y)])
    kind, chosen = SETTINGS[estimator], ESTIMATORS[estimator]
    settings = replace(kind(), **next((s for k, s in FEW.items() if issubclass(kind, k)), {}))
    start = time.perf_counter()
    try:
        answers = chosen.answers(chosen.prepare(data, settings, seed), data, settings, seed)
        nats: float | None = answers.joint(torch.arange(y.shape[1]))
        kept = visited_once(answers, y.shape[1], x.shape[1])
    except EstimationError:
        nats, kept = None, []
    return {
        "kept": " ".join(str(bits[column]) for column in kept),
        "valid": int(sorted(bits[column] for column in kept) == [0, 1, 2]),
        "nats": nats,
        "seconds": time.perf_counter() - start,
    }


def drawn(toy: str, seed: int) -> tuple[Tensor, Tensor, list[int]]:
    """Columns x (n, 6), A as y (n, 1), and which bit each column is."""
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 2, (ROWS, 3))
    bits = generator.permutation(SETS[toy]).tolist()
    equal = np.ptp(values, axis=1) == 0
    y = torch.from_numpy(equal[:, None].astype(np.float64))
    return torch.from_numpy(values[:, bits].astype(np.float64)), y, bits


def visited_once(answers: PairInformation, targets: int, columns: int) -> list[int]:
    """Columns that add enough to those that are there when they are visited, in their order."""
    order = range(columns)
    elimination = answers.eliminate_in_order(torch.arange(targets), order)
    kept = []
    for column in order:
        if elimination.loss(column) < LEAST:
            elimination.drop(column)
        else:
            elimination.settle(column)
            kept.append(column)
    return kept


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each estimator, the columns of each set side by side."""
    rows = []
    for name in dict.fromkeys(p["estimator"] for p in points):
        row: dict[str, Any] = {"estimator": name}
        for toy in SETS:
            own = [p for p in points if (p["estimator"], p["set"]) == (name, toy)]
            told = [p["nats"] for p in own if isinstance(p["nats"], float)]
            seen = sum(int(p["valid"]) for p in own)
            row[f"{toy}: one of each"] = f"{seen} of {len(own)}" if told else "-"
            row[f"{toy}: nats"] = spread(told) if told else "-"
        all_of = [p["seconds"] for p in points if p["estimator"] == name]
        rows.append({**row, "seconds": f"{median(all_of):.2f}"})
    return rows


KEPT = PointTable("ablations.toys", "TERC's toy sets", NOTES, KEY, COLUMNS, table)
write_page = KEPT.write_page

if __name__ == "__main__":
    main()
