"""How the closed form's cost grows: with a layer's width, and with the number of rows.

Synthetic rows of one layer pair, 3x3 kernels, as many targets as channels. A width or a number of
rows is measured in a process of its own, so that its peak memory is its own too.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.cost.search_page import PAGE, SCALING, write_page
from benchmarks.shared.command import circumstances, measured_apart, parse, parser
from benchmarks.shared.kept import write_json
from benchmarks.shared.tables import print_table
from mipp.information import gaussian
from mipp.information.moments import MomentSums
from mipp.process.peak_memory import peak_rss_mb
from mipp.progress import track
from mipp.selection.rules import Consumer, Threshold
from mipp.selection.visits import best_first, visit_once, visiting_order
from mipp.settings import Gaussian

BLOCK = 9
BATCH = 1024  # rows that come at once
NOTE = """\
sums: rows into moments, in chunks; prepare: one factorisation; walk: half of the channels go, best
first, or visited once in MI order. Only the sums depend on the number of rows. Memory: above the
process before."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.scaling", __doc__ or "", PAGE)
    options.add_argument(
        "--widths", type=int, nargs="+", default=[64, 128, 256, 512], help="numbers of channels"
    )
    options.add_argument(
        "--rows", type=int, nargs="+", default=[2048, 4096, 8192, 16384], help="numbers of rows"
    )
    options.add_argument("--width", type=int, default=128, help="while rows vary")
    options.add_argument("--count", type=int, default=8192, help="rows while widths vary")
    options.add_argument("--repetitions", type=int, default=3, help="processes for each size")
    options.add_argument(
        "--alone",
        type=int,
        nargs=2,
        metavar=("CHANNELS", "ROWS"),
        help="measure one size in this process and print JSON",
    )
    return parse(options, given)


def measure(channels: int, rows: int) -> dict[str, Any]:
    """Seconds of each step and the memory that they took."""
    before = peak_rss_mb()
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(channels, channels, generator=generator) / channels**0.5
    sums, seconds = MomentSums("rows"), 0.0
    for _ in range(-(-rows // BATCH)):
        x = torch.randn(BATCH, channels, BLOCK, generator=generator)
        y = torch.relu(x.mean(2) @ mix)
        started = time.perf_counter()
        sums.add(x, y)
        seconds += time.perf_counter() - started
    started_preparing = time.perf_counter()
    config = Gaussian()
    state = gaussian.prepare(
        sums.moments(), channels, ridge=config.ridge, resolution=config.resolution
    )
    prepared = time.perf_counter()
    targets = torch.arange(channels)
    single = state.single(targets)
    half = Threshold(math.inf), channels // 2  # whatever they add, down to the floor
    started = time.perf_counter()
    in_order = state.eliminate_in_order(targets, visiting_order(single))
    visit_once([Consumer(in_order)], single, *half)
    visited = time.perf_counter()
    best_first([Consumer(state.eliminate(targets))], single, *half)
    return {
        "channels": channels,
        "rows": rows,
        "sums": seconds,
        "prepare": prepared - started_preparing,
        "walk": time.perf_counter() - visited,
        "walk, MI order": visited - started,
        "MiB": peak_rss_mb() - before,
    }


def measured_alone(options: argparse.Namespace, channels: int, rows: int) -> dict[str, Any]:
    """Medians over processes of their own."""
    values = {"--alone": (channels, rows), "--threads": options.threads}
    runs = [measured_apart("cost.scaling", values) for _ in range(options.repetitions)]
    return {key: float(np.median([run[key] for run in runs])) for key in runs[0]}


def exponent(rows: Sequence[dict[str, Any]], over: str, step: str) -> float:
    """Slope of the logarithm of a step's cost over that of the size."""
    size, cost = (np.log([max(row[key], 1e-9) for row in rows]) for key in (over, step))
    return float(np.polyfit(size, cost, 1)[0])


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    if options.alone:
        print(json.dumps(measure(*options.alone)))
        return
    widths = track(options.widths, total=len(options.widths), label="widths")
    wide = [measured_alone(options, width, options.count) for width in widths]
    print_table(wide)
    steps = ("sums", "prepare", "walk", "walk, MI order", "MiB")
    over_width = {step: exponent(wide, "channels", step) for step in steps}
    print("exponent of the width: " + _listed(over_width))
    numbers = track(options.rows, total=len(options.rows), label="rows")
    long = [measured_alone(options, options.width, rows) for rows in numbers]
    print_table(long)
    over_rows = {step: exponent(long, "rows", step) for step in steps}
    print("exponent of the rows: " + _listed(over_rows))
    print(NOTE)
    exponents = {"over_width": over_width, "over_rows": over_rows}
    results = {"wide": wide, "long": long, **exponents, **circumstances(options)}
    if options.write:
        write_json(SCALING, results)
        write_page()


def _listed(exponents: dict[str, float]) -> str:
    return ", ".join(f"{step} {value:.2f}" for step, value in exponents.items())


if __name__ == "__main__":
    main()
