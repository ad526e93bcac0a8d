"""What was tried for the defaults: one thing changed at a time, accuracy without any training.

ResNet-20 on CIFAR-10-JPEG, half of the MACs. Every seed draws its own calibration images. Writes
docs/experiments.md.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import torch

from benchmarks.ablations import lengths
from benchmarks.accuracy.untrained import summary
from benchmarks.shared.points import add_point, read_points
from benchmarks.shared.workload import example_of, load_network, load_splits
from mipp.activations import Sampling, capture_rows
from mipp.activations.targets import Targets
from mipp.config import ChooseConfig, EstimateConfig, ExtractConfig, PruneConfig
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.information import gaussian
from mipp.information.moments import Moments, MomentSums
from mipp.metrics import accuracy
from mipp.refit import RefitSettings, recalibrate, refit
from mipp.refit.least_squares import STEPS
from mipp.selection.by_information import select_by_information

MODEL, BUDGET = "resnet20", "macs:0.5"
RESULTS, PAGE = Path("benchmarks/results/choices.csv"), Path("docs/experiments.md")
BASE = {"budget": BUDGET, "worth": "nats", "order": "mi", "param_weight": 0.0}  # of that time
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
    sweeps: int = 1
    targets: Targets = ExtractConfig().targets


VARIANTS = (
    Variant("the defaults"),
    Variant("refit: layers before a sum do not make up for the skip", sums=False),
    Variant("refit: what a ReLU stops has to come out as well", steps=1),
    Variant("refit: 4 solutions where a ReLU follows, not 8", steps=4),
    Variant("refit: 16 solutions", steps=16),
    Variant("refit: 2 sweeps over the network", sweeps=2),
    Variant("refit: 8,192 rows", rows=8192),
    Variant("refit: 16,384 rows", rows=16384),
    Variant("refit: 65,536 rows", rows=65536),
    Variant("refit: ridge 0.003", ridge=0.003),
    Variant("refit: ridge 0.03", ridge=0.03),
    Variant("extract.targets activation", targets="activation"),
    Variant("estimate.resolution 0.1", resolution=0.1),
    Variant("estimate.resolution 1", resolution=1.0),
    Variant("choose.worth share (the default since)", {"worth": "share"}),
    Variant("choose.position_weight 0", {"position_weight": 0.0}),
    Variant("choose.position_weight 0.2", {"position_weight": 0.2}),
    Variant("choose.position_weight 0.5", {"position_weight": 0.5}),
    Variant("choose.order best-first", {"order": "best-first"}),
    Variant("choose.price unit (not per MAC)", {"price": "unit"}),
)

BUDGETS, ORDERS = (BUDGET, "macs:0.3", "macs:0.2"), ("mi", "best-first")
IN_SHARES = {
    (budget, order): Variant(
        f"choose.worth share, choose.order {order}, {budget}",
        {"worth": "share", "order": order, "budget": budget},
    )
    for budget in BUDGETS
    for order in ORDERS
}

DECIDED = (
    "Decided by it:",
    "",
    "- Targets stay pre-activations. What a unit tells about them after the norm, the skip "
    "addition and the nonlinearity is the worse guide: most of the variance of a sum is the "
    "skip's, which no unit of the layer carries, and what a ReLU stops is not told about at all.",
    "- Swapping kept for dropped channels after the walk, while the information of the group "
    "rises, finds a few swaps a network. They raise information and not accuracy.",
    "- What a unit adds counts as a share of what passes the narrowest cut through its group. Here "
    "it matters little, for the streams pass beside the blocks. In chains it decides: with plain "
    "nats LeNet-5 at `ratio:0.95` keeps 7 units of fc2 and one channel of conv2, which cannot feed "
    "them.",
    "- Units are ordered anew as they go, which costs twice the choice of visits in a known order. "
    "With a unit's worth in nats it lost; in shares ResNet-20 gains at one budget here and loses "
    "at two. What decided are networks that are fine-tuned, and chains: over three seeds of "
    "`mipp sweep`, ResNet-20 changes by -0.0, +0.9 and +0.3 points after training at the budgets "
    "of this table, and LeNet-5 on MNIST keeps 86 instead of 76 % without training at `ratio:0.9`, "
    "90 instead of 85 % after it at `ratio:0.95` (experiments/results, whose history has both).",
    "- Where a budget counts units, one of more parameters counts more: what a unit adds says "
    "nothing about what training can do with it afterwards. Chosen on seeds of its own "
    "(experiments/param-weight.yaml; its table is in docs/evidence.md).",
    "- Filters before a batch-norm keep the length that pruning left. A step turns a filter by the "
    "learning rate over its squared length, and the refit of few channels would leave it up to "
    "three times as long. Shorter filters train a little faster still, but so do those of "
    "Torch-Pruning's network: that is a higher learning rate, not a better start. Where there "
    "is hardly any training, a good start is better off with a lower one: after 78 steps at the "
    "same rate, one epoch of 10,000 images, the kept sweep of ResNet-20 (experiments/results, "
    "whose history has both) ends 0.2, 0.2 and 1.0 points lower at `macs:0.5`, `macs:0.3` and "
    "`macs:0.2` than from the longer filters. Decided for the longer training.",
    "- One sweep of the refit is enough: a second one fits the calibration images, not the test.",
)


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data-root", help="folder with cifar10-jpeg/ and checkpoints/")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    options.add_argument("--page-only", action="store_true", help="measure nothing")
    return options.parse_args()


def main() -> None:
    options = arguments()
    if not options.page_only:
        known = {(point["variant"], int(point["seed"])) for point in read_points(RESULTS)}
        for seed in options.seeds:
            missing = [v for v in (*VARIANTS, *IN_SHARES.values()) if (v.name, seed) not in known]
            for point in run_seed(options, seed, missing) if missing else ():
                add_point(RESULTS, COLUMNS, point)
    write_page(options)


def run_seed(
    options: argparse.Namespace, seed: int, variants: Sequence[Variant]
) -> Iterator[dict[str, Any]]:
    splits = load_splits(options.data_root, MODEL, options.images, seed)
    dense = load_network(options.data_root, MODEL, splits.shape[1])
    example = example_of(splits.test)
    graph = build_graph(dense, example)
    inputs = [images for images, _ in splits.calibration.batches(512)]
    sums = {
        targets: moments_of(dense, graph, inputs, seed, targets)
        for targets in {variant.targets for variant in variants}
    }
    for variant in variants:
        states = {
            pair.name: gaussian.prepare(
                sums[variant.targets][pair.name],
                pair.features.shape[0],
                ridge=EstimateConfig().ridge,
                resolution=variant.resolution,
            )
            for pair in graph.pairs
        }
        config = ChooseConfig(**{**BASE, **variant.choose})
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
            for _ in range(variant.sweeps):
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


def moments_of(
    dense: Any, graph: Any, inputs: list[torch.Tensor], seed: int, targets: Targets
) -> dict[str, Moments]:
    sums: dict[str, MomentSums] = {}
    sampling = Sampling(ExtractConfig().rows, sum(map(len, inputs)), seed)
    for rows in capture_rows(dense, graph.pairs, inputs, sampling, targets):
        for name, (x, y) in rows.items():
            sums.setdefault(name, MomentSums()).add(x, y)
    return {name: found.moments() for name, found in sums.items()}


def _never(*_: object) -> bool:
    return False


def write_page(options: argparse.Namespace) -> None:
    points = read_points(RESULTS)
    seeds = sorted({int(point["seed"]) for point in points})
    page = [
        "# What was tried for the defaults",
        "",
        f"Written by `python -m benchmarks.ablations.choices` from `{RESULTS}`: {MODEL} on "
        f"CIFAR-10-JPEG at `{BUDGET}`, {options.images:,} calibration images, no training, percent "
        f"of all test images, seed {' and '.join(map(str, seeds))} (the defaults were chosen on "
        "seed 0). One thing is changed at a time, from a unit's worth in nats; *recalibrated* has "
        "batch-norm statistics of the calibration images and no refit. A difference of 0.5 points "
        "is noise. *Removed* is what lost, and whose code is gone.",
        "",
        "| variant | recalibrated % | refit % | refit, against the defaults |",
        "| --- | --- | --- | --- |",
    ]
    base = by_seed(points, VARIANTS[0].name, "refit")
    known = {variant.name for variant in (*VARIANTS, *IN_SHARES.values())}
    tried = {point["variant"] for point in points} - known
    for name in (*(variant.name for variant in VARIANTS), *sorted(tried)):
        recalibrated, refitted = (by_seed(points, name, c) for c in ("recalibrated", "refit"))
        gaps = [value - base[seed] for seed, value in refitted.items()]
        gone = " (removed)" if name in tried else ""
        page.append(
            f"| {name}{gone} | {summary([*recalibrated.values()])} "
            f"| {summary([*refitted.values()])} | {mean(gaps):+.2f} |"
        )
    page += ["", *orders_by_budget(points), "", *lengths.section(), "", *DECIDED]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join([*page, ""]))
    print(PAGE.read_text())


def orders_by_budget(points: list[dict[str, str]]) -> list[str]:
    """The table of the two orders where a unit's worth is a share."""
    lines = [
        "In shares, the order of the visits, and what ordering anew gains:",
        "",
        "| budget | mi, refit % | best-first (the default since), refit % | gain |",
        "| --- | --- | --- | --- |",
    ]
    for budget in BUDGETS:
        once, anew = (by_seed(points, IN_SHARES[budget, order].name, "refit") for order in ORDERS)
        gaps = [value - once[seed] for seed, value in anew.items()]
        lines.append(
            f"| {budget} | {summary([*once.values()])} | {summary([*anew.values()])} "
            f"| {mean(gaps):+.2f} |"
        )
    return lines


def by_seed(points: list[dict[str, str]], variant: str, column: str) -> dict[str, float]:
    return {p["seed"]: 100 * float(p[column]) for p in points if p["variant"] == variant}


if __name__ == "__main__":
    main()
