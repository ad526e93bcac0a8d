"""The methods of the accuracy benchmark, and what is measured of each one's network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.accuracy.workloads import CPU, Images, Workload
from benchmarks.rivals.torch_pruning import (
    CRITERIA as RIVALS,
)
from benchmarks.rivals.torch_pruning import (
    Goal,
    Rival,
    accumulate_gradients,
    accumulate_squares,
    prune_to_goal,
)
from benchmarks.shared.workload import example_of
from mipp.activations import Sampling
from mipp.budget import parse_budget
from mipp.config import FinetuneConfig
from mipp.criteria import CRITERIA, CriterionInput
from mipp.criteria.shared.scoring import score_units
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.metrics import accuracy, count_macs, count_params
from mipp.pruning.oneshot import prune
from mipp.refit import RefitSettings, recalibrate, refit
from mipp.selection.by_scores import select_by_criterion
from mipp.selection.selection import Selection
from mipp.settings import Criterion, Refit
from mipp.training import Teacher, train

BATCH = 256
DISTILL = 0.5  # of the loss of those that are taught, by the dense network's answers
SLACK = 0.02  # of a budget; a unit of ResNet-20's first stage costs 2.4 % of macs:0.3
Scope = Literal["layer", "global"]
SCOPES: tuple[Scope, ...] = ("global", "layer")
Lengths = Literal["former", "fitted"]
Precision = Literal["float32", "bfloat16"]
Accumulate = Callable[[nn.Module, Iterable[tuple[Tensor, Tensor]]], None]


@dataclass(frozen=True)
class Cut:
    """A pruned network, the seconds it took, and the selection where this project made it."""

    model: nn.Module
    seconds: float
    selection: Selection | None = None


@dataclass(frozen=True)
class Trial:
    """What all methods are given under one seed."""

    workload: Workload
    dense: nn.Module
    images: Images
    seed: int
    precision: Precision = "float32"  # of fine-tuning

    def labelled(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.images.calibration.batches(BATCH)

    @cached_property
    def example(self) -> Tensor:
        return example_of(self.images.test)

    @cached_property
    def inputs(self) -> list[Tensor]:
        return [images for images, _ in self.labelled()]

    def macs(self, model: nn.Module) -> int:
        return count_macs(model, tuple(self.example.shape[1:]))

    def units(self, model: nn.Module) -> int:
        """Outputs of all conv and linear layers but those of the classifier."""
        layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        return sum(layer.weight.shape[0] for layer in layers) - self.images.classes

    def percent(self, model: nn.Module) -> float:
        return 100 * accuracy(model, self.images.test, batch_size=500, device=CPU)

    @cached_property
    def dense_percent(self) -> float:
        return self.percent(self.dense)

    def goal(self, budget: str) -> Goal:
        """The budget as Torch-Pruning is to meet it; a ratio up to one unit."""
        parsed = parse_budget(budget)
        if parsed.kind == "ratio":
            return Goal(self.units, (1 - parsed.value) * self.units(self.dense) // 1, 1)
        measure = self.macs if parsed.kind == "macs" else count_params
        target = parsed.value * measure(self.dense)
        return Goal(measure, target, SLACK * target)

    @cached_property
    def summed(self) -> tuple[nn.Module, float]:
        """The dense network with the sum of its gradients, and the seconds of it."""
        return self._with_gradients(accumulate_gradients)

    @cached_property
    def squared(self) -> tuple[nn.Module, float]:
        """The dense network with its mean squared gradients, and the seconds of it."""
        return self._with_gradients(accumulate_squares)

    def _with_gradients(self, accumulate: Accumulate) -> tuple[nn.Module, float]:
        model, started = copy.deepcopy(self.dense), time.perf_counter()
        accumulate(model, self.labelled())
        return model, time.perf_counter() - started

    def recalibrated(self, model: nn.Module) -> nn.Module:
        model = copy.deepcopy(model)
        recalibrate(model, self.inputs)
        return model

    def refitted(
        self, model: nn.Module, selection: Selection, lengths: Lengths = "former"
    ) -> nn.Module:
        """The network after a refit, its filters before a batch-norm as long as before or not."""
        model, whole = copy.deepcopy(model), [torch.cat(self.inputs)]
        sampling = Sampling(Refit.rows, len(whole[0]), self.seed)
        settings = RefitSettings(Refit.ridge, sampling, lengths=lengths, norms="own")
        graph = build_graph(self.dense, self.example)
        refit(model, self.dense, graph, selection, whole.copy, settings)
        return model

    def finetuned(self, model: nn.Module, epochs: int, *, taught: bool = False) -> nn.Module:
        # a third faster on the CPU for the thin layers of a pruned network
        model = copy.deepcopy(model).to(memory_format=torch.channels_last)
        config = FinetuneConfig(epochs=epochs, batch_size=128, precision=self.precision)
        training = self.images.training
        teacher = Teacher(self.dense, DISTILL, config.temperature) if taught else None
        train(
            model,
            training,
            training.first(0),
            config,
            teacher=teacher,
            seed=self.seed,
            device=CPU,
        )
        return model


@dataclass(frozen=True)
class Method:
    """A row of the table: how the network is cut, from where and how it is fine-tuned."""

    name: str
    cut: Callable[[Trial, str], Cut]
    start: Literal["recalibrated", "refit", "nowhere"] = "recalibrated"
    taught: bool = False  # by the dense network, beside the labels


@lru_cache(maxsize=1)  # two methods in a row differ in their fine-tuning alone
def by_information(trial: Trial, budget: str) -> Cut:
    count = len(trial.images.calibration)
    found = prune(
        trial.dense, trial.labelled(), budget, repair="none", images=count, seed=trial.seed
    )
    return Cut(found.model, found.report.seconds, found.selection)


def by_criterion(name: str, scope: Scope) -> Method:
    """One of this project's own rival criteria, its scores ranked per layer or all together."""

    def cut(trial: Trial, budget: str) -> Cut:
        started = time.perf_counter()
        graph = build_graph(trial.dense, trial.example)
        given = CriterionInput(trial.dense, graph, trial.labelled, trial.seed)
        scores = score_units(name, CRITERIA[name], given)
        method = Criterion(name, scope)
        selection = select_by_criterion(graph, scores, method, parse_budget(budget)).selection
        model = apply_selection(trial.dense, selection, trial.example)
        return Cut(model, time.perf_counter() - started, selection)

    return Method(f"{name}, {scope}", cut)


def by_torch_pruning(name: str, scope: Scope) -> Method:
    """Torch-Pruning itself, on the layers that it can prune here."""

    def cut(trial: Trial, budget: str) -> Cut:
        kind = RIVALS[name].gradients
        model, seconds = (
            (trial.dense, 0.0)
            if kind == "none"
            else trial.summed
            if kind == "sum"
            else trial.squared
        )
        rival = Rival(name, scope, trial.workload.rival_layers)
        found = prune_to_goal(model, trial.example, rival, trial.goal(budget))
        return Cut(found.model, seconds + found.seconds)

    return Method(f"Torch-Pruning {name}, {scope}", cut)


def taught(method: Method) -> Method:
    """The same, trained with the dense network as teacher."""
    return replace(method, name=f"{method.name}, taught", taught=True)


METHODS: tuple[Method, ...] = (
    Method("dense", lambda trial, _: Cut(trial.dense, 0.0), start="nowhere"),
    Method("mipp", by_information),
    Method("mipp, refit start", by_information, start="refit"),
    taught(Method("mipp, refit start", by_information, start="refit")),
    *(by_criterion(name, scope) for name in ("l1", "taylor", "random") for scope in SCOPES),
    *(by_torch_pruning(name, scope) for name in RIVALS for scope in SCOPES),
    taught(by_torch_pruning("LAMP", "layer")),
)
NAMES = [method.name for method in METHODS]


def methods_for(model: nn.Module, epochs: int) -> list[Method]:
    """The methods that mean something for a network, and without training."""
    norms = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    blind = {f"Torch-Pruning {name}" for name, row in RIVALS.items() if row.needs_norms}
    return [
        method
        for method in METHODS
        if (epochs or not (method.start == "refit" or method.taught))
        and (norms or method.name.rpartition(", ")[0] not in blind)
    ]


def measure(trial: Trial, method: Method, budget: str, epochs: int) -> dict[str, Any]:
    """Everything of one point: shares and accuracies in percent, and seconds."""
    cut = method.cut(trial, budget)
    sizes = {
        name: 100 * count(cut.model) / count(trial.dense)
        for name, count in (("units", trial.units), ("macs", trial.macs), ("params", count_params))
    }
    if method.start == "nowhere":
        return {**sizes, "raw": trial.dense_percent}
    networks = {"recalibrated": trial.recalibrated(cut.model)}
    if cut.selection is not None:
        networks["refit"] = trial.refitted(cut.model, cut.selection)
        networks["refit_recalibrated"] = trial.recalibrated(networks["refit"])
    accuracies = {name: trial.percent(model) for name, model in networks.items()}
    point = {**sizes, "raw": trial.percent(cut.model), **accuracies, "seconds": cut.seconds}
    if epochs:
        started = time.perf_counter()
        start = networks[method.start]
        point["finetuned"] = trial.percent(trial.finetuned(start, epochs, taught=method.taught))
        point["finetune_seconds"] = time.perf_counter() - started
    return point
