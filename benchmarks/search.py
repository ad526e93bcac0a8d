"""Cost of a search: extract, estimate and choose beside a bare forward pass and a Taylor pass."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.torch_pruning_rival import (
    accumulate_gradients,
    score_groups,
    trace_dependencies,
)
from benchmarks.workload import (
    example_of,
    finish,
    load_calibration,
    load_network,
    parser,
    print_table,
)
from mipp.activations import Sampling, capture_rows, open_store, write_store
from mipp.activations.store import ActivationStore
from mipp.config import ChooseConfig, EstimateConfig, ExtractConfig
from mipp.data import ImageSplit
from mipp.graph import ChannelGraph, build_graph
from mipp.information.estimators import prepare_gaussian
from mipp.information.gaussian import PairState
from mipp.information.moments import MomentSums
from mipp.selection.by_information import select_by_information
from mipp.stages.estimate import pair_data
from mipp.stages.extract import add_up
from mipp.stages.inputs import images_of

TARGETS = {"resnet20": 2.5, "vgg16": 5.0}  # forward passes that a search may cost
Cost = npt.NDArray[np.float64]  # wall and CPU seconds
CPU = torch.device("cpu")


def arguments() -> argparse.Namespace:
    options = parser("search", __doc__ or "")
    options.add_argument("--model", default="resnet20", help="any network that mipp names")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--batch-size", type=int, default=256, help="images per forward pass")
    options.add_argument("--rows", type=int, default=ExtractConfig().rows, help="extract.rows")
    options.add_argument("--budget", default="macs:0.5", help="choose.budget")
    options.add_argument("--repetitions", type=int, default=3, help="of everything, interleaved")
    return options.parse_args()


@dataclass(frozen=True)
class Search:
    """One network's steps, each a method without arguments; images are decoded beforehand."""

    model: nn.Module
    graph: ChannelGraph
    split: ImageSplit
    options: argparse.Namespace
    store: Path

    def forward(self) -> None:
        with torch.inference_mode():
            for images in images_of(self.split, self.options.batch_size, CPU):
                self.model(images)

    def extract(self) -> dict[str, MomentSums]:
        batches = images_of(self.split, self.options.batch_size, CPU)
        sampling = Sampling(self.options.rows, len(self.split), seed=0)
        counts = {
            pair.name: len(self.split) * sampling.per_image(pair.positions)
            for pair in self.graph.pairs
        }
        sums: dict[str, MomentSums] = {}
        rows = capture_rows(self.model, self.graph.pairs, batches, sampling)
        write_store(self.store, add_up(rows, counts, sums), {})
        return sums

    def estimate(self, sums: dict[str, MomentSums]) -> dict[str, PairState]:
        store = open_store(self.store)
        return {name: self.prepare(store, name, sums.pop(name, None)) for name in store.pairs}

    def prepare(self, store: ActivationStore, name: str, sums: MomentSums | None) -> PairState:
        data = pair_data(store, name, CPU)
        if sums is not None:
            data = replace(data, sums=sums.moments)
        return prepare_gaussian(data, EstimateConfig(), 0)

    def choose(self, states: dict[str, PairState]) -> None:
        select_by_information(self.graph, states, ChooseConfig(budget=self.options.budget), {})


def repetition(search: Search) -> dict[str, Cost]:
    """Cost of every step, once."""
    dependencies, rival = trace_dependencies(search.model, example_of(search.split))
    labelled = search.split.batches(search.options.batch_size)
    costs = {"forward": _cost(search.forward)[0]}
    costs["extract"], sums = _cost(search.extract)
    costs["estimate"], states = _cost(lambda: search.estimate(sums))
    costs["choose"] = _cost(lambda: search.choose(states))[0]
    costs["taylor backward"] = _cost(lambda: accumulate_gradients(rival, labelled))[0]
    costs["taylor importance"] = _cost(lambda: score_groups(dependencies))[0]
    shutil.rmtree(search.store)
    costs["search"] = costs["extract"] + costs["estimate"] + costs["choose"]
    costs["taylor"] = costs["taylor backward"] + costs["taylor importance"]
    return costs


def _cost(call: Callable[[], Any]) -> tuple[Cost, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    answer = call()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu]), answer


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    split = load_calibration(options.data_root, options.model, options.images)
    model = load_network(options.data_root, options.model, split.preparation.size)
    graph = build_graph(model, example_of(split))
    with tempfile.TemporaryDirectory() as folder:
        search = Search(model, graph, split, options, Path(folder) / "activations.zarr")
        search.forward()  # decodes the images and warms up
        runs = [repetition(search) for _ in range(options.repetitions)]
    report(runs, options)


def report(runs: list[dict[str, Cost]], options: argparse.Namespace) -> None:
    """Medians over repetitions; every ratio is taken inside one of them."""

    def ratio(step: str, reference: str) -> Cost:
        return np.median([run[step] / run[reference] for run in runs], axis=0)

    rows = []
    for step in runs[0]:
        wall, cpu = map(float, np.median([run[step] for run in runs], axis=0))
        times = float(ratio(step, "forward")[0])
        rows.append({"step": step, "seconds": wall, "CPU seconds": cpu, "forward passes": times})
    print(f"{options.model}, {options.images} images: medians of {len(runs)} repetitions")
    print_table(rows)
    forwards, rivals = ratio("search", "forward"), ratio("search", "taylor")
    print(
        f"search / forward = {forwards[0]:.2f} (CPU {forwards[1]:.2f})"
        f"{_verdict(options.model, forwards[0])}"
    )
    print(
        f"search / Torch-Pruning's Taylor pass = {rivals[0]:.2f} (CPU {rivals[1]:.2f}); "
        "tracing is in neither"
    )
    results = {
        "steps": rows,
        "runs": [{step: cost.tolist() for step, cost in run.items()} for run in runs],
        "search_over_forward": forwards.tolist(),
        "search_over_taylor": rivals.tolist(),
    }
    finish("search", results, options.out)


def _verdict(model: str, ratio: float) -> str:
    if model not in TARGETS:
        return ""
    return f": target at most {TARGETS[model]:g} {'met' if ratio <= TARGETS[model] else 'missed'}"


if __name__ == "__main__":
    main()
