"""Every benchmark: its command, what it measures, the page that it writes, how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Benchmark:
    """A module with `arguments`, `main`, and `write_page` where there is a page."""

    name: str  # under `benchmarks`, as `python -m` takes it
    module: str
    measures: str
    takes: str  # with the defaults, on two cores
    page: Path | None = None


def _row(name: str, measures: str, takes: str, page: str = "", module: str = "") -> Benchmark:
    return Benchmark(name, module or name, measures, takes, Path(page) if page else None)


BENCHMARKS: tuple[Benchmark, ...] = (
    _row(
        "accuracy",
        "test accuracy at equal budgets, beside all criteria of Torch-Pruning",
        "2 h a budget",
        "docs/accuracy.md",
        "accuracy.equal_budgets",
    ),
    _row(
        "accuracy.repairing",
        "rivals that repair, and rival criteria with this project's repair, without training",
        "2 h a budget",
        "docs/repairing.md",
    ),
    _row(
        "accuracy.untrained",
        "pruning before and after training, on plain and deformed images",
        "2 h",
        "docs/untrained.md",
    ),
    _row(
        "accuracy.checkpoints",
        "test accuracy of networks that it trains and keeps for the others",
        "1 h a network",
    ),
    _row(
        "accuracy.distilled",
        "what distillation adds to the refit, by the number of images",
        "1 h",
        "docs/distilled.md",
    ),
    _row(
        "accuracy.rounds",
        "one-shot pruning beside pruning in rounds, at equal epochs",
        "6 h",
        "docs/rounds.md",
    ),
    _row(
        "accuracy.dropped",
        "a drop of one point: what it finds, what the test says, beside ten fixed budgets",
        "30 min a network",
        "docs/dropped.md",
    ),
    _row(
        "cost.search",
        "a search beside a forward pass and Torch-Pruning's Taylor pass",
        "1 min",
        "docs/search.md",
    ),
    _row(
        "cost.plans",
        "several budgets from one Pruner beside calls of mipp.prune",
        "2 min",
        "docs/search.md",
    ),
    _row(
        "cost.real_size",
        "mipp.prune of ImageNet networks beside a forward pass, in time and memory",
        "10 min a network",
        "docs/search.md",
    ),
    _row(
        "cost.scaling",
        "how the closed form grows with a layer's width and with rows",
        "2 min",
        "docs/search.md",
    ),
    _row(
        "cost.sizing",
        "a model of seconds and bytes by layer, checked, carried to ImageNet",
        "5 min",
        "docs/sizing.md",
    ),
    _row(
        "cost.pipeline",
        "the pipeline on JPEGs at 224 pixels with ResNet-50: seconds and memory by stage",
        "30 min",
        "docs/sizing.md",
    ),
    _row(
        "cost.loader",
        "training images from a folder of JPEGs, beside torchvision's ImageFolder",
        "5 min",
        "docs/loading.md",
    ),
    _row("cost.gpu", "a search on a GPU, in time and memory", "5 min", "benchmarks/RESULTS.md"),
    _row("cost.memory", "peak memory of extraction against the number of images", "3 min"),
    _row("cost.allocator", "training with freed memory kept and given back", "2 min"),
    _row("cost.orchestration", "the digits as a flow beside the same stages, plainly", "7 min"),
    _row(
        "ablations.choices",
        "what was tried for the defaults, without training",
        "1 h",
        "docs/experiments.md",
    ),
    _row(
        "ablations.lengths",
        "the length of filters that fine-tuning starts from",
        "1 h",
        "docs/experiments.md",
    ),
    _row(
        "ablations.weighting",
        "streams and parts of a network that count more, and the plan whose outputs err least",
        "2 h",
        "docs/experiments.md",
    ),
    _row(
        "ablations.measures",
        "every estimator of information where the answer is known, and its seconds",
        "1 h",
        "docs/measures.md",
    ),
    _row(
        "ablations.tables",
        "selection of features in tables, beside scikit-learn's selectors",
        "10 min",
        "docs/tables.md",
    ),
    _row(
        "ablations.states",
        "variables of the state of gymnasium's environments, found among copies and noise",
        "2 min",
        "docs/states.md",
    ),
    _row(
        "ablations.evolution",
        "regularised evolution and a one-shot ranking over widths, at equal seconds",
        "15 min",
        "docs/evolution.md",
    ),
    _row(
        "ablations.toys",
        "TERC's two toy sets with every estimator: which of them see what no bit tells alone",
        "20 min",
        "docs/toys.md",
    ),
    _row(
        "ablations.confidence",
        "the ratio that a confidence leads to, for both estimators",
        "1 h",
        "docs/confidence.md",
    ),
    _row(
        "ablations.estimators",
        "the paper's estimator beside the closed form",
        "30 min",
        "docs/estimators.md",
    ),
    _row(
        "validation",
        "cases whose answer is known before the code runs",
        "3 min",
        "docs/validation.md",
        "validation.known_answers",
    ),
    _row(
        "validation.zoo",
        "networks that people bring, pruned, trained, exported, beside Torch-Pruning",
        "1 h",
        "docs/models.md",
    ),
    _row(
        "validation.reliability",
        "promises under faults and hostile input, each by its tests",
        "1 h",
        "docs/reliability.md",
    ),
    _row(
        "validation.newcomer",
        "a clone, the README's commands, a network and images of somebody new, their mistakes",
        "10 min",
        "docs/newcomer.md",
    ),
    _row(
        "validation.latency",
        "budgets of time beside the time that is measured",
        "15 min",
        "docs/latency.md",
    ),
)
# Page -> the module whose `write_page` makes it.
PAGES: Mapping[Path, str] = {
    **{b.page: b.module for b in BENCHMARKS if b.page is not None},
    Path("docs/evidence.md"): "evidence.page",  # of what `mipp sweep` left
}
