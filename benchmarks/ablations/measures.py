"""Every estimator where the information is known: normal variables, one or many on a side.

What is measured is the joint information of a pair, as a stage asks for it. With --write a run
that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.shared.command import fitting, parse
from benchmarks.shared.kept import Point
from benchmarks.shared.point_table import PointTable
from benchmarks.shared.tables import spread
from mipp.errors import EstimationError
from mipp.information.estimators import ESTIMATORS, PairData
from mipp.settings import ESTIMATOR_NAMES, Reconstruction

SETTINGS = {name: kind for kind, name in ESTIMATOR_NAMES.items()}
CORRELATED = (0.0, 0.5, 0.9, 0.99)
DENSE = (2, 3, 5, 25, 50)
CASES = (*(f"two variables, {rho:g}" for rho in CORRELATED), *(f"dense {m}-{m}" for m in DENSE))
ROWS = (1000, 5000, 20_000)
MOST = {"kernel-density": 5000}  # rows: all distances are held
KEY = ("estimator", "case", "rows", "seed")
COLUMNS = ("truth", "nats", "seconds")
NOTES = """\
Nats, mean and deviation over seeds; in the last column the median seconds of one measurement with
all of these rows. *two variables, rho*: normal, with that correlation. *dense m-m*: m normal
variables on either side, every two of them with correlation 0.5 (multinormal-dense of Czyz et al.
2023, arXiv:2306.11078). A dash is a case that the estimator refuses. `gaussian` sees every target
through noise of 0.3 of its variance and adds up what each is told, `reconstruction` the same: they
measure another thing, on purpose, and are not held against the truth here. `dime` adds up what each
target is told, too, which is more than the truth where these depend on each other. Each estimator's
file in `mipp/information` says where it is blind."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = KEPT.parser(__doc__)
    options.add_argument("--estimators", nargs="+", metavar="PATTERN", help="by name, with *")
    options.add_argument("--rows", type=int, nargs="+", choices=ROWS, default=[*ROWS[:2]])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    names = fitting("--estimators", options.estimators or ["*"], [*ESTIMATORS])
    every = [
        (name, case, rows, seed)
        for rows in options.rows
        for name in names
        for case in CASES
        for seed in options.seeds
        if rows <= MOST.get(name, rows)
    ]
    KEPT.run(options, every, lambda point: measure(**point))


def measure(estimator: str, case: str, rows: int, seed: int) -> Point:
    """One measurement of one case; nats are empty where it is refused."""
    x, y, truth = drawn(case, rows, seed)
    data = PairData("rows", rows, x.shape[1], 1, lambda: [(x.unsqueeze(2), y)])
    kind = SETTINGS[estimator]
    settings = kind() if estimator == "gaussian" else replace(kind(), rows=_rows(kind, rows))
    chosen = ESTIMATORS[estimator]
    start = time.perf_counter()
    try:
        state = chosen.prepare(data, settings, seed)
        answers = chosen.answers(state, data, settings, seed)
        nats: float | None = answers.joint(torch.arange(y.shape[1]))
    except EstimationError:
        nats = None
    seconds = time.perf_counter() - start
    return {"truth": truth, "nats": nats, "seconds": seconds}


def _rows(kind: type[Any], rows: int) -> int:
    """Rows that train, where others judge."""
    return rows - min(kind().held_out, rows // 6) if kind is Reconstruction else rows


def drawn(case: str, rows: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """x (n, d), y (n, m) of a case, and the nats between them, by determinants."""
    size = 1 if case.startswith("two") else int(case.split("-")[1])
    rho = float(case.split(", ")[1]) if size == 1 else 0.5
    covariance = np.full((2 * size, 2 * size), rho) + (1 - rho) * np.eye(2 * size)
    parts = covariance[:size, :size], covariance[size:, size:], covariance
    own, other, both = (float(np.linalg.slogdet(part)[1]) for part in parts)
    values = np.random.default_rng(seed).standard_normal((rows, 2 * size))
    z = torch.from_numpy(values @ np.linalg.cholesky(covariance).T)
    return z[:, :size], z[:, size:], (own + other - both) / 2


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each estimator and number of rows, after one of the truth."""
    truths = {p["case"]: p["truth"] for p in points}
    cases = [case for case in CASES if case in truths]
    first: dict[str, Any] = {"rows": "", "estimator": "truth"}
    found = [first | {case: f"{truths[case]:.3f}" for case in cases} | {"seconds": ""}]
    for rows, name in dict.fromkeys((p["rows"], p["estimator"]) for p in points):
        own = [p for p in points if (p["rows"], p["estimator"]) == (rows, name)]
        told = {case: [p["nats"] for p in own if p["case"] == case] for case in cases}
        found.append(
            {"rows": f"{rows:,}", "estimator": name}
            | {case: _told(nats) for case, nats in told.items()}
            | {"seconds": f"{median(p['seconds'] for p in own):.2f}"}
        )
    return found


def _told(nats: Sequence[float | None]) -> str:
    there = [n for n in nats if isinstance(n, float) and math.isfinite(n)]
    return spread(there) if there else "-"


KEPT = PointTable(
    "ablations.measures", "Estimators where the information is known", NOTES, KEY, COLUMNS, table
)
write_page = KEPT.write_page

if __name__ == "__main__":
    main()
