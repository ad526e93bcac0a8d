"""Cost of a search: extract, estimate and choose beside a bare forward pass and a Taylor pass."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.torch_pruning_rival import accumulate_gradients, score_groups
from benchmarks.workload import (
    example_of,
    finish,
    load_calibration,
    load_network,
    parser,
    print_table,
)
from mipp.activations import Sampling, capture_rows, open_store, write_store
from mipp.config import ChooseConfig, EstimateConfig, ExtractConfig
from mipp.data import ImageSplit
from mipp.graph import ChannelGraph, build_graph, trace_dependencies
from mipp.information.gaussian import PairState
from mipp.selection.by_information import select_by_information
from mipp.stages.estimate import prepare_pair
from mipp.stages.inputs import images_of

TARGET, LATER_TARGET = 4.0, 2.5  # forward passes that a search may cost
SEARCH = ("extract", "estimate", "choose")
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

    def extract(self) -> None:
        batches = images_of(self.split, self.options.batch_size, CPU)
        sampling = Sampling(self.options.rows, len(self.split), seed=0)
        write_store(self.store, capture_rows(self.model, self.graph.pairs, batches, sampling), {})

    def estimate(self) -> dict[str, PairState]:
        store = open_store(self.store)
        return {pair: prepare_pair(store, pair, EstimateConfig(), CPU) for pair in store.pairs}

    def choose(self, states: dict[str, PairState]) -> None:
        select_by_information(self.graph, states, ChooseConfig(budget=self.options.budget), {})


def repetition(search: Search) -> dict[str, float]:
    """Seconds of every step, once."""
    dependencies, rival = trace_dependencies(search.model, example_of(search.split))
    labelled = search.split.batches(search.options.batch_size)
    seconds = {
        "forward": _seconds(search.forward)[0],
        "extract": _seconds(search.extract)[0],
    }
    seconds["estimate"], states = _seconds(search.estimate)
    seconds["choose"] = _seconds(lambda: search.choose(states))[0]
    seconds["taylor backward"] = _seconds(lambda: accumulate_gradients(rival, labelled))[0]
    seconds["taylor importance"] = _seconds(lambda: score_groups(dependencies))[0]
    shutil.rmtree(search.store)
    return seconds


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    answer = call()
    return time.perf_counter() - started, answer


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


def report(runs: list[dict[str, float]], options: argparse.Namespace) -> None:
    """Medians of every step, and the ratios of sums that belong to one repetition."""
    for run in runs:
        run["search"] = sum(run[step] for step in SEARCH)
        run["taylor"] = run["taylor backward"] + run["taylor importance"]
    rows = [
        {
            "step": step,
            "seconds": median(run[step] for run in runs),
            "of a forward pass": median(run[step] / run["forward"] for run in runs),
        }
        for step in runs[0]
    ]
    print(f"{options.model}, {options.images} images, {options.repetitions} repetitions: medians")
    print_table(rows)
    ratio = median(run["search"] / run["forward"] for run in runs)
    rival = median(run["search"] / run["taylor"] for run in runs)
    print(f"search / forward = {ratio:.2f}: {_verdict(ratio, TARGET)}")
    print(f"                   later goal: {_verdict(ratio, LATER_TARGET)}")
    print(f"search / Torch-Pruning's Taylor pass = {rival:.2f} (tracing is in neither)")
    results = {"steps": rows, "runs": runs, "ratio_forward": ratio, "ratio_taylor": rival}
    finish("search", results, options.out)


def _verdict(ratio: float, target: float) -> str:
    return f"target at most {target:g}, {'met' if ratio <= target else 'missed'}"


if __name__ == "__main__":
    main()
