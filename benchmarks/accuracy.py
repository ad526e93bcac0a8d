"""Test accuracy without training, at one budget of MACs: this project beside its rivals."""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.torch_pruning_rival import accumulate_gradients, prune_inner_channels
from benchmarks.workload import (
    Rows,
    example_of,
    find_checkpoint,
    finish,
    load_network,
    load_splits,
    parser,
    print_table,
)
from mipp.activations import Sampling
from mipp.config import PruneConfig, parse_budget
from mipp.criteria import CRITERIA, CriterionInput
from mipp.data import ImageSplit
from mipp.errors import DataError
from mipp.graph import build_graph
from mipp.metrics import accuracy, count_macs, count_params
from mipp.oneshot import prune
from mipp.refit import RefitSettings, recalibrate, refit
from mipp.selection.budget import select_by_scores
from mipp.selection.selection import Selection
from mipp.surgery import apply_selection

MODEL = "resnet20"
BATCH = 256
NOTE = """\
Percent of the test images, no training; recalibrated: batch-norm statistics from the calibration
images; refit: least squares of the following layers, then also recalibrated. mipp's methods prune
every channel group, the residual streams too. Torch-Pruning cannot follow this network's padded
shortcuts: it is given the blocks' inner channels (conv1) alone, and has to find all savings there.
Seconds: tracing, scores and surgery, once; without the bisection of Torch-Pruning's ratio."""
CPU = torch.device("cpu")


def arguments() -> argparse.Namespace:
    options = parser("accuracy", __doc__ or "")
    options.add_argument("--budget", default="macs:0.5", help="share of the MACs to keep")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--test-images", type=int, default=10_000, help="test images, the first")
    options.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="of splits, sampling and random scores"
    )
    return options.parse_args()


@dataclass(frozen=True)
class Trial:
    """What all methods are given under one seed."""

    dense: nn.Module
    calibration: ImageSplit
    test: ImageSplit
    budget: str
    seed: int

    def labelled(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.calibration.batches(BATCH)

    def inputs(self) -> list[Tensor]:
        return [images for images, _ in self.labelled()]

    def percent(self, model: nn.Module) -> float:
        return 100 * accuracy(model, self.test, batch_size=500, device=CPU)

    def recalibrated(self, model: nn.Module) -> float:
        model = copy.deepcopy(model)
        recalibrate(model, self.inputs())
        return self.percent(model)

    def row(self, method: str, model: nn.Module, seconds: float | None) -> dict[str, Any]:
        """The method's line of the table, without a refit."""
        shape = example_of(self.test).shape[1:]
        return {
            "method": method,
            "MACs %": 100 * count_macs(model, shape) / count_macs(self.dense, shape),
            "params %": 100 * count_params(model) / count_params(self.dense),
            "raw": self.percent(model),
            "recalibrated": self.recalibrated(model) if seconds is not None else None,
            "refit": None,
            "refit, recal.": None,
            "seconds": seconds,
        }

    def with_refit(
        self, method: str, model: nn.Module, selection: Selection, seconds: float
    ) -> dict[str, Any]:
        """The method's whole line; the model is refitted in place."""
        row = self.row(method, model, seconds)
        graph = build_graph(self.dense, example_of(self.test))
        config = PruneConfig()
        settings = RefitSettings(
            config.ridge, Sampling(config.rows, len(self.calibration), self.seed)
        )
        refit(model, self.dense, graph, selection, self.inputs, settings)
        return {
            **row,
            "refit": self.percent(model),
            "refit, recal.": self.recalibrated(model),
        }


def by_information(trial: Trial) -> dict[str, Any]:
    count = len(trial.calibration)
    found = prune(
        trial.dense, trial.labelled(), trial.budget, repair="none", images=count, seed=trial.seed
    )
    return trial.with_refit("mipp", found.model, found.selection, found.report.seconds)


def by_criterion(name: str, scope: Literal["layer", "global"]) -> Callable[[Trial], dict[str, Any]]:
    """One of mipp's rival criteria, its scores ranked per layer or over the network."""

    def method(trial: Trial) -> dict[str, Any]:
        started = time.perf_counter()
        example = example_of(trial.test)
        graph = build_graph(trial.dense, example)
        scores = CRITERIA[name](CriterionInput(trial.dense, graph, trial.labelled, trial.seed))
        floors = dict.fromkeys(graph.groups, 1)
        kept = select_by_scores(
            scores, graph, parse_budget(trial.budget), scope=scope, floors=floors
        )
        selection = Selection(kept, dict(graph.widths), name)
        model = apply_selection(trial.dense, selection, example)
        seconds = time.perf_counter() - started
        return trial.with_refit(f"{name}, {scope}", model, selection, seconds)

    return method


def by_torch_pruning(
    name: str, scope: Literal["layer", "global"]
) -> Callable[[Trial], dict[str, Any]]:
    """Torch-Pruning itself, on the channels that it can prune here."""

    def method(trial: Trial) -> dict[str, Any]:
        model = copy.deepcopy(trial.dense)
        started = time.perf_counter()
        if name == "taylor":
            accumulate_gradients(model, trial.labelled())
        seconds = time.perf_counter() - started
        share = parse_budget(trial.budget).value
        cut = prune_inner_channels(model, example_of(trial.test), name, scope, share)
        return trial.row(f"Torch-Pruning {name}, {scope}", cut.model, seconds + cut.seconds)

    return method


METHODS: tuple[Callable[[Trial], dict[str, Any]], ...] = (
    lambda trial: trial.row("dense", trial.dense, None),
    by_information,
    *(by_criterion(n, s) for n in ("l1", "taylor", "random") for s in ("layer", "global")),
    *(by_torch_pruning(n, s) for n in ("l1", "taylor") for s in ("layer", "global")),
)


def summarise(tables: list[Rows]) -> Rows:
    """Means over seeds, with standard deviations of the accuracies where there are several."""
    if len(tables) == 1:
        return tables[0]
    return [
        {column: _summary([row[column] for row in rows]) for column in rows[0]}
        for rows in zip(*tables, strict=True)
    ]


def _summary(values: list[Any]) -> Any:
    if not isinstance(values[0], float):
        return values[0]
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if not options.budget.startswith("macs:"):
        sys.exit(f"--budget: expected macs:SHARE such as macs:0.5, got {options.budget}")
    if find_checkpoint(options.data_root, MODEL) is None:
        sys.exit(f"no checkpoint of {MODEL} was found; give --data-root or set MIPP_DATA")
    tables = []
    for seed in options.seeds:
        try:
            splits = load_splits(options.data_root, MODEL, options.images, seed)
        except DataError as error:
            sys.exit(str(error))
        test = splits.test.first(options.test_images)
        model = load_network(options.data_root, MODEL, splits.shape[1])
        trial = Trial(model, splits.calibration, test, options.budget, seed)
        tables.append([method(trial) for method in METHODS])
    print(
        f"{MODEL}, CIFAR-10-JPEG, {options.budget}, {options.images} calibration and "
        f"{len(test)} test images, seeds {options.seeds}"
    )
    print_table(summarise(tables))
    print(NOTE)
    finish("accuracy", {"by_seed": tables}, options.out)


if __name__ == "__main__":
    main()
