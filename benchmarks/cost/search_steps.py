"""The steps of a search and of a Taylor pass, one method each, with what each one costs."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.rivals.torch_pruning import (
    accumulate_gradients,
    score_groups,
    trace_dependencies,
)
from benchmarks.shared.workload import MIB, example_of
from mipp.activations import Sampling, capture_rows, open_store, write_store
from mipp.activations.store import ActivationStore
from mipp.budget import parse_budget
from mipp.data import ImageSplit
from mipp.device import synchronize
from mipp.graph import ChannelGraph
from mipp.information.gaussian.estimator import prepare_gaussian
from mipp.information.gaussian.state import PairState
from mipp.information.moments import MomentSums
from mipp.information.protocols import Information
from mipp.process.peak_memory import peak_rss_mb
from mipp.pruning.estimates import measure_information
from mipp.selection.by_information import Choice, select_by_information
from mipp.settings import Gaussian, Mipp
from mipp.stages.estimate import pair_data
from mipp.stages.extract import add_up
from mipp.stages.splits import SplitCalibration, images_of

SUMS = {
    "search": ("extract", "estimate", "choose"),
    "search, no store": ("measure", "choose"),
    "taylor": ("taylor backward", "taylor importance"),
}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cost:
    """Seconds of the wall and of the CPU, and the most memory held at once."""

    wall: float
    cpu: float
    peak: float  # MiB; of CUDA's allocator, on the CPU of the process

    def __add__(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.peak, other.peak))


@dataclass(frozen=True)
class Search:
    """One network's steps, with nothing but what the step before gave; images are decoded before.

    Model and graph are on the device; images are brought there batch by batch, in every step.
    """

    model: nn.Module
    graph: ChannelGraph
    split: ImageSplit
    store: Path
    rows: int
    batch_size: int
    budget: str
    device: torch.device = CPU

    def forward(self) -> None:
        with torch.inference_mode():
            for images in images_of(self.split, self.batch_size, self.device):
                self.model(images)

    def extract(self) -> dict[str, MomentSums]:
        batches = images_of(self.split, self.batch_size, self.device)
        sampling = Sampling(self.rows, len(self.split), seed=0)
        counts = {
            pair.name: len(self.split) * sampling.per_image(pair.positions)
            for pair in self.graph.pairs
        }
        sums: dict[str, MomentSums] = {}
        rows = capture_rows(self.model, self.graph.pairs, batches, sampling)
        write_store(self.store, add_up(rows, counts, sums), {})
        return sums

    def measure(self) -> Information:
        """Estimates without a store, as `mipp.prune` makes them."""
        shape = tuple(example_of(self.split).shape[1:])
        images = SplitCalibration(lambda: self.split, shape, self.batch_size, self.device)
        method = Mipp(rows=self.rows)
        return measure_information(self.model, self.graph, images, method, 0, tested=False)

    def estimate(self, sums: dict[str, MomentSums]) -> dict[str, PairState]:
        store = open_store(self.store)
        return {name: self._prepare(store, name, sums.pop(name, None)) for name in store.pairs}

    def _prepare(self, store: ActivationStore, name: str, sums: MomentSums | None) -> PairState:
        data = pair_data(store, name, self.device)
        if sums is not None:
            data = replace(data, sums=sums.moments)
        return prepare_gaussian(data, Gaussian(), 0)

    def choose(self, states: Mapping[str, PairState]) -> Choice:
        return select_by_information(self.graph, states, Mipp(), parse_budget(self.budget))

    def choice(self) -> Choice:
        """All three steps, not timed."""
        found = self.choose(self.estimate(self.extract()))
        shutil.rmtree(self.store)
        return found


def repetition(search: Search) -> dict[str, Cost]:
    """Cost of every step, once.

    The rival's copy of the network is made after the search, so that neither counts in the
    other's memory; its tracing is not timed, like that of the search.
    """
    device = search.device
    costs = {"forward": cost_of(search.forward, device)[0]}
    costs["extract"], sums = cost_of(search.extract, device)
    costs["estimate"], states = cost_of(lambda: search.estimate(sums), device)
    costs["choose"] = cost_of(lambda: search.choose(states), device)[0]
    states.clear()
    costs["measure"] = cost_of(search.measure, device)[0]
    shutil.rmtree(search.store)
    dependencies, rival = trace_dependencies(search.model, example_of(search.split).to(device))
    labelled = search.split.batches(search.batch_size, device=device)
    backward, importance = SUMS["taylor"]
    costs[backward] = cost_of(lambda: accumulate_gradients(rival, labelled), device)[0]
    costs[importance] = cost_of(lambda: score_groups(dependencies), device)[0]
    for whole, (first, *others) in SUMS.items():
        costs[whole] = sum((costs[step] for step in others), costs[first])
    return costs


def cost_of(call: Callable[[], Any], device: torch.device) -> tuple[Cost, Any]:
    """What a call costs, all that it queues on the device included, and its answer."""
    gc.collect()  # traced graphs are cycles that hold copies of the network
    _forget_peak(device)
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    answer = call()
    synchronize(device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(wall, cpu, _peak(device)), answer


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    marks = Path("/proc/self/clear_refs")
    if os.access(marks, os.W_OK):  # elsewhere a step's peak is that of all steps so far
        marks.write_text("5")


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return marks[0] / 1024 if marks else peak_rss_mb()
