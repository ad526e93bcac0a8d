"""What was tried for the defaults: one thing changed at a time, accuracy without any training.

ResNet-20 on CIFAR-10-JPEG, half of the MACs. Every seed draws its own calibration images. With
--write a run that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.ablations.experiments_page import CHOICES, IMAGES, PAGE, choice_points, write_page
from benchmarks.ablations.variants import BASE, BUDGET, IN_SHARES, MODEL, VARIANTS, Variant
from benchmarks.shared.command import (
    add_again,
    add_data_root,
    circumstances,
    fitting,
    parse,
    parser,
)
from benchmarks.shared.kept import Point
from benchmarks.shared.tables import print_table
from benchmarks.shared.workload import example_of, load_network, load_splits
from mipp.activations import Sampling, capture_rows
from mipp.budget import parse_budget
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.information import gaussian
from mipp.information.moments import Moments, MomentSums
from mipp.metrics import accuracy
from mipp.progress import track
from mipp.refit import RefitSettings, recalibrate, refit
from mipp.selection.by_information import select_by_information
from mipp.settings import Gaussian, Mipp

CPU = torch.device("cpu")
BY_NAME = {variant.name: variant for variant in (*VARIANTS, *IN_SHARES.values())}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("ablations.choices", __doc__ or "", PAGE)
    add_data_root(options)
    add_again(options)
    options.add_argument("--images", type=int, default=IMAGES, help="calibration images")
    options.add_argument("--test-images", type=int, help="the first, for a quick trial")
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of the images")
    options.add_argument("--variants", nargs="+", default=["*"], help="names, or patterns with *")
    return parse(options, given, fixed=("images", "test_images"))


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    points = choice_points(CHOICES if options.write else None)
    names = fitting("--variants", options.variants, [*BY_NAME])
    for seed in options.seeds:
        every = [{"variant": name, "seed": seed} for name in names]
        wanted = every if options.again else points.missing(every)
        variants = [BY_NAME[point["variant"]] for point in wanted]
        for point in run_seed(options, seed, variants) if variants else ():
            points.add(point)
    print_table(points.all())
    circumstances(options)
    if options.write:
        write_page()


def run_seed(
    options: argparse.Namespace, seed: int, variants: Sequence[Variant]
) -> Iterator[Point]:
    splits = load_splits(options.data_root, MODEL, options.images, seed)
    dense = load_network(options.data_root, MODEL, splits.shape[1])
    example = example_of(splits.test)
    test = splits.test if options.test_images is None else splits.test.first(options.test_images)
    graph = build_graph(dense, example)
    inputs = [images for images, _ in splits.calibration.batches(512)]
    sums = moments_of(dense, graph, inputs, seed)
    for variant in track(variants, total=len(variants), label=f"variants, seed {seed}"):
        states = {
            pair.name: gaussian.prepare(
                sums[pair.name],
                pair.features.shape[0],
                ridge=Gaussian.ridge,
                resolution=variant.resolution,
            )
            for pair in graph.pairs
        }
        values = {**BASE, **variant.choose}
        budget = parse_budget(values.pop("budget", BUDGET))
        selection = select_by_information(graph, states, Mipp(**values), budget).selection
        pruned = apply_selection(dense, selection, example)
        plain = copy.deepcopy(pruned)
        recalibrate(plain, inputs)
        followed = graph if variant.sums else replace(graph, sums={})
        sampling = Sampling(variant.rows, options.images, seed)
        settings = RefitSettings(variant.ridge, sampling, variant.solutions)
        whole = torch.cat(inputs)
        for _ in range(variant.sweeps):
            refit(pruned, dense, followed, selection, [whole].copy, settings)
        networks = {"recalibrated": plain, "refit": pruned}
        yield {
            "variant": variant.name,
            "seed": seed,
            **{n: accuracy(m, test, batch_size=500, device=CPU) for n, m in networks.items()},
        }


def moments_of(dense: Any, graph: Any, inputs: list[torch.Tensor], seed: int) -> dict[str, Moments]:
    sums: dict[str, MomentSums] = {}
    sampling = Sampling(Mipp.rows, sum(map(len, inputs)), seed)
    for rows in capture_rows(dense, graph.pairs, inputs, sampling):
        for name, (x, y) in rows.items():
            sums.setdefault(name, MomentSums()).add(x, y)
    return {name: found.moments() for name, found in sums.items()}


if __name__ == "__main__":
    main()
