"""What was published and what our tables say to it, one row per claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from mipp.experiments.statistics import Row, by_cell, share_near_best, summarise

Tables = Mapping[str, Sequence[Row]]  # experiment -> rows
UNMEASURED = "not measured yet"
PAPER = "arXiv:2411.00147v1"


@dataclass(frozen=True)
class Claim:
    """A published statement, where it stands, and what answers it."""

    text: str
    source: str
    answer: Callable[[Tables], str]


def near_best(experiment: str, start: str) -> Callable[[Tables], str]:
    """In how many cells mipp is the best, or within a deviation of it."""

    def answer(tables: Tables) -> str:
        near, compared = share_near_best(by_cell(tables.get(experiment, ())), start)
        if not compared:
            return UNMEASURED
        return f"best or within one deviation of the best in {near} of {compared} cells"

    return answer


def against(experiment: str, start: str, rival: str) -> Callable[[Tables], str]:
    """In how many cells mipp's mean is above a rival's."""

    def answer(tables: Tables) -> str:
        cells = by_cell(r for r in tables.get(experiment, ()) if r["start"] == start)
        both = [m for m in cells.values() if "mipp" in m and rival in m]
        if not both:
            return UNMEASURED
        won = sum(mean(m["mipp"].values()) > mean(m[rival].values()) for m in both)
        return f"above {rival} in {won} of {len(both)} cells"

    return answer


def collapses(experiment: str, start: str, least: float) -> Callable[[Tables], str]:
    """Collapsed runs of mipp and of the rest, at or above a share of units removed."""

    def answer(tables: Tables) -> str:
        rows = [
            row
            for row in tables.get(experiment, ())
            if row["start"] == start and round(row["units_removed"], 2) >= least
        ]
        if not rows:
            return UNMEASURED
        ours = [bool(row["collapsed"]) for row in rows if row["method"] == "mipp"]
        rest = [bool(row["collapsed"]) for row in rows if row["method"] != "mipp"]
        return (
            f"mipp collapsed in {sum(ours)} of {len(ours)} runs, "
            f"the others in {sum(rest)} of {len(rest)}"
        )

    return answer


def errors(experiment: str, params: int) -> Callable[[Tables], str]:
    """Lowest test error of mipp at no more parameters than a published row, and its widths."""

    def answer(tables: Tables) -> str:
        cells: dict[str, list[Row]] = {}
        for row in tables.get(experiment, ()):
            if row["method"] == "mipp" and row.get("params") and row["params"] <= params:
                cells.setdefault(row["budget"], []).append(row)
        if not cells:
            return UNMEASURED if experiment not in tables else "no network as small"
        found = {
            budget: summarise(100 * (1 - row["accuracy_finetuned"]) for row in rows)
            for budget, rows in cells.items()
        }
        best = min(found, key=lambda budget: found[budget].mean)
        return (
            f"{found[best].text()} % error ({found[best].seeds} seeds) "
            f"at {best}, {mean(r['params'] for r in cells[best]):,.0f} parameters; kept "
            f"{'; '.join(sorted({row['widths'] for row in cells[best]}))}"
        )

    return answer


def _caffe(widths: str, error: str, conv1: int, conv2: int, flat: int, fc1: int) -> Claim:
    """A published row of Caffe's LeNet-5; the parameters of such a network, biases included."""
    params = conv1 * 26 + conv2 * (25 * conv1 + 1) + fc1 * (flat + 1) + 10 * (fc1 + 1)
    return Claim(
        f"LeNet-5-Caffe keeps {widths} at {error} % error (about {params:,} parameters)",
        "as printed by its authors",
        errors("lenet5-caffe-mnist", params),
    )


CLAIMS: Sequence[Claim] = (
    Claim(
        "LeNet-5 on MNIST, pruned after training: MIPP is better than the rivals",
        f"{PAPER} section 4",
        near_best("lenet5-mnist", "trained"),
    ),
    *(
        Claim(
            f"LeNet-5 on MNIST, pruned {start}: better than {rival}",
            f"{PAPER} section 4",
            against("lenet5-mnist", start, rival),
        )
        for start, rivals in (
            ("trained", ("synflow", "grasp", "thinet", "sosp-h")),
            ("untrained", ("synflow", "grasp", "thinet", "re-initialised")),
        )
        for rival in rivals
    ),
    Claim(
        "LeNet-5 still trains with more than 95 % of its units removed",
        f"{PAPER} section 4",
        collapses("lenet5-mnist", "trained", 0.95),
    ),
    Claim(
        "the same before training",
        f"{PAPER} section 4",
        collapses("lenet5-mnist", "untrained", 0.95),
    ),
    Claim(
        "LeNet-5 on deformed MNIST, pruned after training",
        f"{PAPER} section 4",
        near_best("lenet5-mnist-deformed", "trained"),
    ),
    *(
        Claim(f"{title}: MIPP is better than the rivals", f"{PAPER} section 4", near_best(name, s))
        for name, title in (
            ("vgg11-cifar10", "VGG-11 on CIFAR-10"),
            ("resnet18-cifar10", "ResNet-18 on CIFAR-10"),
            ("resnet34-cifar10", "ResNet-34 on CIFAR-10"),
            ("vgg19-cifar100", "VGG-19 on CIFAR-100"),
            ("resnet50-cifar100", "ResNet-50 on CIFAR-100"),
        )
        for s in ("trained",)
    ),
    Claim(
        "ResNet-50 on ImageNet: mean ratio 71.1 ± 0.81 % trained, 55.6 ± 0.62 % untrained",
        f"{PAPER} section 4",
        near_best("resnet50-imagenet", "trained"),
    ),
    Claim(
        "the widths alone often explain a pruned network's accuracy",
        "Frankle et al. 2021 (arXiv:2009.08576), of pruning at initialisation",
        against("lenet5-mnist", "untrained", "random-same-widths"),
    ),
    Claim(
        "the small network trained from scratch does as well",
        "Liu et al. 2019 (arXiv:1810.05270v2)",
        against("lenet5-mnist", "trained", "small-dense"),
    ),
    _caffe("5-10-76-16 (BC-GHS)", "1.0", 5, 10, 76, 16),
    _caffe("8-13-88-13 (BC-GNJ)", "1.0", 8, 13, 88, 13),
    _caffe("9-18-65-25 (L0-sep)", "1.0", 9, 18, 65, 25),
    _caffe("20-25-45-462 (L0)", "0.9", 20, 25, 45, 462),
    _caffe("3-18-284-283 (SBP)", "0.9", 3, 18, 284, 283),
)
