"""A step of training with freed memory kept and given back: seconds, page faults, peak memory.

Every measurement has a process of its own, kept and given back in turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.shared.command import (
    add_data_root,
    circumstances,
    measured_apart,
    parse,
    parser,
)
from benchmarks.shared.kept import RESULTS, write_json
from benchmarks.shared.tables import print_table
from benchmarks.shared.workload import load_network, random_calibration
from mipp.process.allocator import keep_freed_memory
from mipp.process.peak_memory import peak_rss_mb
from mipp.progress import track

SIDES = ("given back", "kept")
FILE = RESULTS / "allocator.json"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.allocator", __doc__ or "")
    add_data_root(options)
    options.add_argument("--model", default="resnet20", help="any network that mipp names")
    options.add_argument("--size", type=int, default=32, help="image side in pixels")
    options.add_argument("--batch-size", type=int, default=128, help="images per step")
    options.add_argument("--steps", type=int, default=20, help="of each measurement")
    options.add_argument("--repetitions", type=int, default=3, help="of both sides, in turns")
    options.add_argument(
        "--alone", choices=SIDES, help="measure one side in this process and print JSON"
    )
    return parse(options, given)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Means over the steps of one training."""
    if options.alone == "kept" and not keep_freed_memory():
        sys.exit("this allocator cannot be told to keep memory, or the environment has decided")
    model = load_network(options.data_root, options.model, options.size).train()
    split = random_calibration(options.batch_size, options.size, classes=10)
    ((images, labels),) = split.batches(options.batch_size)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    step()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(options.steps):
        step()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": seconds,
        "CPU seconds of the kernel": after.ru_stime - before.ru_stime,
        "page faults": float(after.ru_minflt - before.ru_minflt),
    }
    return {**{k: v / options.steps for k, v in found.items()}, "peak MiB": peak_rss_mb()}


def measure_alone(options: argparse.Namespace, side: str) -> dict[str, float]:
    """`measure` in a fresh process."""
    values = {
        "--alone": side,
        "--model": options.model,
        "--size": options.size,
        "--batch-size": options.batch_size,
        "--steps": options.steps,
        "--threads": options.threads,
        "--data-root": options.data_root,
    }
    return measured_apart("cost.allocator", values)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    if options.alone:
        print(json.dumps(measure(options)))
        return
    repetitions = track(range(options.repetitions), total=options.repetitions, label="both sides")
    runs = [{side: measure_alone(options, side) for side in SIDES} for _ in repetitions]
    rows: list[dict[str, Any]] = [
        {"freed memory is": side}
        | {name: median(run[side][name] for run in runs) for name in runs[0][side]}
        for side in SIDES
    ]
    print(f"{options.model}, {options.batch_size} images a step: medians of {len(runs)} processes")
    print_table(rows)
    share = median(run["kept"]["seconds"] / run["given back"]["seconds"] for run in runs)
    print(f"kept: {share:.3f} times the seconds")
    results = {"model": options.model, "runs": runs, "share": share, **circumstances(options)}
    if options.write:
        write_json(FILE, results)


if __name__ == "__main__":
    main()
