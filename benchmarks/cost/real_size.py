"""ImageNet networks as people prune them: seconds and memory beside a bare forward pass.

Each network runs in a process of its own, random weights on random images that are drawn anew for
every pass, so that nothing of them is held.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.cost.search_page import PAGE, REAL_SIZE, write_page
from benchmarks.shared.command import circumstances, measured_apart, parse, parser
from benchmarks.shared.kept import keep_rows
from benchmarks.shared.tables import print_table
from mipp.models import ModelSpec, build_model
from mipp.process.peak_memory import peak_rss_mb
from mipp.progress import track
from mipp.pruning.pruner import Pruner

SIZE, BATCH, BUDGET = 224, 32, "macs:0.5"
STEPS = ("graph", "rank", "plan", "cut")
KEY = ("network", "images")


class Drawn:
    """Random images with labels, drawn anew for every pass.

    >>> [len(x) for x in Drawn(40).inputs()]
    [32, 8]
    """

    def __init__(self, images: int) -> None:
        self._images = images

    def count(self) -> int:
        return self._images

    def example(self) -> Tensor:
        return next(self.inputs())[:1]

    def inputs(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for first in range(0, self._images, BATCH):
            count = min(BATCH, self._images - first)
            yield torch.randn(count, 3, SIZE, SIZE, generator=generator)

    def labelled(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x in self.inputs():
            yield x, torch.arange(len(x)) % 10


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.real_size", __doc__ or "", PAGE)
    options.add_argument(
        "--network", nargs="+", default=["torchvision/resnet50"], help="any that mipp names"
    )
    options.add_argument("--images", type=int, nargs="+", default=[64], help="at 224 pixels")
    options.add_argument("--repetitions", type=int, default=3, help="processes, for medians")
    options.add_argument("--alone", action="store_true", help="measure here and print JSON")
    return parse(options, given)


def measure(name: str, images: int) -> dict[str, Any]:
    """Seconds of the CPU and of the wall by step, and peaks of this process in MiB."""
    model = build_model(ModelSpec(name, 1000, 3, SIZE), seed=0).eval()
    calibration = Drawn(images)
    seconds: dict[str, tuple[float, float]] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        before = time.process_time(), time.perf_counter()
        result = work()
        seconds[step] = time.process_time() - before[0], time.perf_counter() - before[1]
        return result

    @torch.inference_mode()
    def forward() -> None:
        for x in calibration.inputs():
            model(x)

    forward()
    timed("forward", forward)
    bare = peak_rss_mb()
    pruner = Pruner(model, calibration)
    timed("graph", lambda: pruner.graph)
    ranking = timed("rank", pruner.rank)
    plan = timed("plan", partial(pruner.plan, BUDGET, ranking))
    del ranking
    searched = peak_rss_mb()
    timed("cut", partial(pruner.cut, plan))
    return {
        "cpu": {step: cpu for step, (cpu, _) in seconds.items()},
        "wall": {step: wall for step, (_, wall) in seconds.items()},
        "bare MiB": bare,
        "search MiB": searched,
        "MiB": peak_rss_mb(),
    }


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    if options.alone:
        print(json.dumps(measure(options.network[0], options.images[0])))
        return
    asked = [(name, images) for name in options.network for images in options.images]
    rows = []
    for name, images in track(asked, total=len(asked), label="real size"):
        values = {"--alone": (), "--network": name, "--images": images}
        values["--threads"] = options.threads
        runs = [measured_apart("cost.real_size", values) for _ in range(options.repetitions)]
        rows.append(report(name, images, runs))
        print_table(rows[-1:])
        if options.write:
            keep_rows(REAL_SIZE, KEY, [{**rows[-1], **circumstances(options)}])
            write_page()
    print_table(rows)


def report(name: str, images: int, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians; passes are seconds over those of the bare forward pass of the same run."""

    def passes(kind: str, steps: Sequence[str]) -> float:
        return median(sum(run[kind][s] for s in steps) / run[kind]["forward"] for run in runs)

    return {
        "network": name,
        "images": images,
        "forward, CPU s": median(run["cpu"]["forward"] for run in runs),
        "graph": passes("cpu", ["graph"]),
        "extract, estimate": passes("cpu", ["rank"]),
        "choose": passes("cpu", ["plan"]),
        "cut, refit": passes("cpu", ["cut"]),
        "whole": passes("cpu", STEPS),
        "whole, wall": passes("wall", STEPS),
        "GB, search": median(run["search MiB"] - run["bare MiB"] for run in runs) / 1024,
        "GB, whole": median(run["MiB"] - run["bare MiB"] for run in runs) / 1024,
    }


if __name__ == "__main__":
    main()
