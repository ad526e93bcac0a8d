"""What repeated points show: means over seeds, paired differences, who is best, who collapses."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

Row = Mapping[str, Any]
Cell = tuple[str, str, str]  # start, variant, budget
BySeed = dict[int, float]

ENUMERATED = 6  # seeds up to which every resample is counted: 6^6 = 46,656
RESAMPLES = 20_000
LEVEL = 0.95
LEAST_SEEDS = 3  # that tell a win or a loss
BIN = 0.05  # of units removed
REFERENCE = "dense"  # no method: it removes nothing


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation (0 of one value) and number of seeds."""

    mean: float
    deviation: float
    seeds: int

    def text(self, digits: int = 2) -> str:
        """Mean ± deviation; of one value it has none."""
        spread = f" ± {self.deviation:,.{digits}f}" if self.seeds > 1 else ""
        return f"{self.mean:,.{digits}f}{spread}"


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, its bootstrap interval and the number of pairs."""

    mean: float
    low: float
    high: float
    pairs: int


def summarise(values: Iterable[float]) -> Summary:
    """Summary of one value per seed."""
    found = list(values)
    return Summary(mean(found), stdev(found) if len(found) > 1 else 0.0, len(found))


def paired_difference(ours: BySeed, theirs: BySeed) -> Difference:
    """How much higher ours is than theirs, over the seeds that both have.

    The interval is the percentile bootstrap's at 95 %. Up to six seeds every resample is
    counted. With three, the lowest of 27 resamples has probability 1/27 > 2.5 %, so that the
    interval is the range of the three differences: it excludes zero exactly if all three agree
    in sign, which chance alone does in one case of four.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    values = np.array([ours[seed] - theirs[seed] for seed in seeds])
    low, high = np.quantile(
        _resampled_means(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf"
    )
    return Difference(float(values.mean()), float(low), float(high), len(seeds))


def _resampled_means(values: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    n = len(values)
    if n <= ENUMERATED:
        return np.array([mean(drawn) for drawn in itertools.product(values.tolist(), repeat=n)])
    drawn = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    return values[drawn].mean(1)


def by_cell(
    rows: Iterable[Row], column: str = "accuracy_finetuned"
) -> dict[Cell, dict[str, BySeed]]:
    """Cell -> method -> seed -> value, variants by their numbers; rows without it are left out."""
    found: dict[Cell, dict[str, BySeed]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        value = row.get(column)
        if value is not None and not math.isnan(value) and row["method"] != REFERENCE:
            cell = (row["start"], row["variant"], row["budget"])
            found[cell][row["method"]][row["seed"]] = float(value)
    in_order = sorted(found.items(), key=lambda item: _by_numbers(item[0][1]))
    return {cell: dict(methods) for cell, methods in in_order}


def _by_numbers(variant: str) -> list[tuple[str, float]]:
    """So that 256 comes before 1024."""
    parts = re.findall(r"(\D*)(\d+(?:\.\d+)?)?", variant)
    return [(text, float(number or 0)) for text, number in parts]


@dataclass(frozen=True)
class Count:
    """Comparisons won, open and lost, each by the sign on all paired seeds."""

    won: int = 0
    open: int = 0
    lost: int = 0

    def with_sign(self, sign: int) -> Count:
        """One comparison more."""
        return Count(self.won + (sign > 0), self.open + (sign == 0), self.lost + (sign < 0))


def strict_sign(ours: BySeed, theirs: BySeed) -> int:
    """1 if ours is above theirs on every seed that both have, -1 if below on every one, else 0.

    Fewer than three seeds leave it open: chance alone would decide one pair of two.
    """
    seeds = ours.keys() & theirs.keys()
    signs = {(ours[seed] > theirs[seed]) - (ours[seed] < theirs[seed]) for seed in seeds}
    return signs.pop() if len(seeds) >= LEAST_SEEDS and len(signs) == 1 else 0


def strict_counts(cells: Iterable[Mapping[str, BySeed]]) -> dict[str, Count]:
    """Of every method against every other one in the same cells, by one rule for all."""
    counts: dict[str, Count] = defaultdict(Count)
    for methods in cells:
        for ours, theirs in itertools.permutations(methods, 2):
            counts[ours] = counts[ours].with_sign(strict_sign(methods[ours], methods[theirs]))
    return dict(counts)


def is_near_best(methods: Mapping[str, BySeed], ours: str = "mipp") -> bool:
    """Whether our mean is the best, or no more than the best's deviation below it."""
    summaries = {name: summarise(values.values()) for name, values in methods.items()}
    best = max(summaries.values(), key=lambda summary: summary.mean)
    return summaries[ours].mean >= best.mean - best.deviation


def share_near_best(cells: Mapping[Cell, Mapping[str, BySeed]], start: str) -> tuple[int, int]:
    """Cells of a start in which mipp is near the best, and all in which it has rivals."""
    compared = [m for (s, _, _), m in cells.items() if s == start and "mipp" in m and len(m) > 1]
    return sum(is_near_best(methods) for methods in compared), len(compared)


def collapse_bins(rows: Iterable[Row]) -> dict[int, dict[str, tuple[int, int]]]:
    """Bin -> method -> (collapsed, runs); bin k holds [5 k, 5 k + 5) % of units removed."""
    bins: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in rows:
        if row["method"] == REFERENCE:
            continue
        k = math.floor(round(row["units_removed"] / BIN, 9))
        collapsed, runs = bins[k].get(row["method"], (0, 0))
        bins[k][row["method"]] = (collapsed + bool(row["collapsed"]), runs + 1)
    return dict(sorted(bins.items()))


def layer_ratios(widths: Mapping[str, int], dense: Mapping[str, int]) -> dict[str, float]:
    """Share removed of each group, over the mean of these shares; empty where nothing went."""
    shares = {group: 1 - widths[group] / dense[group] for group in dense}
    average = mean(shares.values())
    return {group: share / average for group, share in shares.items()} if average else {}


def methods_of(rows: Sequence[Row]) -> list[str]:
    """Methods in the order in which tables show them: mipp, then by name."""
    names = {row["method"] for row in rows} - {REFERENCE}
    return sorted(names, key=lambda name: (name != "mipp", name))
