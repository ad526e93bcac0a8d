"""What was tried for the defaults: one thing changed at a time, accuracy without any training.

ResNet-20 on CIFAR-10-JPEG, half of the MACs. Every seed draws its own calibration images. Writes
docs/experiments.md.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import torch

from benchmarks.untrained import summary
from benchmarks.workload import example_of, load_network, load_splits
from mipp.activations import Sampling, capture_rows
from mipp.config import ChooseConfig, EstimateConfig, ExtractConfig, PruneConfig
from mipp.graph import build_graph
from mipp.information import gaussian
from mipp.information.moments import Moments, MomentSums
from mipp.metrics import accuracy
from mipp.refit import RefitSettings, recalibrate, refit
from mipp.refit.least_squares import STEPS
from mipp.selection.by_information import select_by_information
from mipp.surgery import apply_selection

MODEL, BUDGET = "resnet20", "macs:0.5"
RESULTS, PAGE = Path("benchmarks/results/choices.csv"), Path("docs/experiments.md")
COLUMNS = ("variant", "seed", "recalibrated", "refit")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Variant:
    """One change of the defaults."""

    name: str
    choose: dict[str, Any] = field(default_factory=dict)
    resolution: float = EstimateConfig().resolution
    rows: int = PruneConfig().rows
    ridge: float = PruneConfig().ridge
    sums: bool = True
    steps: int = STEPS


VARIANTS = (
    Variant("the defaults"),
    Variant("refit: layers before a sum do not make up for the skip", sums=False),
    Variant("refit: what a ReLU stops has to come out as well", steps=1),
    Variant("refit: 4 solutions where a ReLU follows, not 8", steps=4),
    Variant("refit: 16 solutions", steps=16),
    Variant("refit: 8,192 rows", rows=8192),
    Variant("refit: 16,384 rows", rows=16384),
    Variant("refit: 65,536 rows", rows=65536),
    Variant("refit: ridge 0.003", ridge=0.003),
    Variant("refit: ridge 0.03", ridge=0.03),
    Variant("estimate.resolution 0.1", resolution=0.1),
    Variant("estimate.resolution 1", resolution=1.0),
    Variant("choose.position_weight 0", {"position_weight": 0.0}),
    Variant("choose.position_weight 0.2", {"position_weight": 0.2}),
    Variant("choose.position_weight 0.5", {"position_weight": 0.5}),
    Variant("choose.order best-first", {"order": "best-first"}),
    Variant("choose.price unit (not per MAC)", {"price": "unit"}),
)


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data-root", help="folder with cifar10-jpeg/ and checkpoints/")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    options.add_argument("--page-only", action="store_true", help="write the page from the results")
    return options.parse_args()


def main() -> None:
    options = arguments()
    if not options.page_only:
        points = [point for seed in options.seeds for point in run_seed(options, seed)]
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(points)
    write_page(options)


def run_seed(options: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    splits = load_splits(options.data_root, MODEL, options.images, seed)
    dense = load_network(options.data_root, MODEL, splits.shape[1])
    example = example_of(splits.test)
    graph = build_graph(dense, example)
    inputs = [images for images, _ in splits.calibration.batches(512)]
    sums = moments_of(dense, graph, inputs, seed)
    for variant in VARIANTS:
        states = {
            pair.name: gaussian.prepare(
                sums[pair.name],
                pair.features.shape[0],
                ridge=EstimateConfig().ridge,
                resolution=variant.resolution,
            )
            for pair in graph.pairs
        }
        config = ChooseConfig(budget=BUDGET, **variant.choose)
        selection = select_by_information(graph, states, config, {}).selection
        pruned = apply_selection(dense, selection, example)
        plain = copy.deepcopy(pruned)
        recalibrate(plain, inputs)
        settings = RefitSettings(variant.ridge, Sampling(variant.rows, options.images, seed))
        whole = torch.cat(inputs)
        with contextlib.ExitStack() as stack:
            if not variant.sums:  # no parameter turns this off: it is only worth a line here
                stack.enter_context(mock.patch("mipp.refit.watcher.is_plain_sum", _never))
            # nor this: the last step's gain is within the noise
            stack.enter_context(mock.patch("mipp.refit.least_squares.STEPS", variant.steps))
            refit(pruned, dense, graph, selection, [whole].copy, settings)
        point = {
            "variant": variant.name,
            "seed": seed,
            **{
                name: accuracy(model, splits.test, batch_size=500, device=CPU)
                for name, model in (("recalibrated", plain), ("refit", pruned))
            },
        }
        print(*point.values(), sep=", ", flush=True)
        yield point


def moments_of(dense: Any, graph: Any, inputs: list[torch.Tensor], seed: int) -> dict[str, Moments]:
    sums: dict[str, MomentSums] = {}
    sampling = Sampling(ExtractConfig().rows, sum(map(len, inputs)), seed)
    for rows in capture_rows(dense, graph.pairs, inputs, sampling):
        for name, (x, y) in rows.items():
            sums.setdefault(name, MomentSums()).add(x, y)
    return {name: found.moments() for name, found in sums.items()}


def _never(*_: object) -> bool:
    return False


def write_page(options: argparse.Namespace) -> None:
    with RESULTS.open() as file:
        points = list(csv.DictReader(file))
    seeds = sorted({int(point["seed"]) for point in points})
    page = [
        "# What was tried for the defaults",
        "",
        f"Written by `python -m benchmarks.choices` from `{RESULTS}`: {MODEL} on CIFAR-10-JPEG at "
        f"`{BUDGET}`, {options.images:,} calibration images, no training, percent of all test "
        f"images, seed {' and '.join(map(str, seeds))} (the defaults were chosen on seed 0). One "
        "thing is changed at a time; *recalibrated* has batch-norm statistics of the calibration "
        "images and no refit. A difference of 0.5 points is noise.",
        "",
        "| variant | recalibrated % | refit % | refit, against the defaults |",
        "| --- | --- | --- | --- |",
    ]
    base = values(points, VARIANTS[0].name, "refit")
    for variant in VARIANTS:
        found = {name: values(points, variant.name, name) for name in ("recalibrated", "refit")}
        gaps = [a - b for a, b in zip(found["refit"], base, strict=True)]
        page.append(
            f"| {variant.name} | {summary(found['recalibrated'])} | {summary(found['refit'])} "
            f"| {mean(gaps):+.2f} |"
        )
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join([*page, ""]))
    print(PAGE.read_text())


def values(points: list[dict[str, str]], variant: str, column: str) -> list[float]:
    return [100 * float(point[column]) for point in points if point["variant"] == variant]


if __name__ == "__main__":
    main()
