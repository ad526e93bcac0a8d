"""docs/experiments.md: what `choices`, `lengths` and `weighting` measured, and decided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from benchmarks.ablations.variants import BUDGET, BUDGETS, IN_SHARES, MODEL, ORDERS, VARIANTS
from benchmarks.ablations.weighting_table import KEPT, section
from benchmarks.accuracy.methods import Lengths
from benchmarks.shared.kept import RESULTS, Point, Points
from benchmarks.shared.tables import markdown, spread

PAGE, CHOICES = Path("docs/experiments.md"), RESULTS / "choices.csv"
IMAGES = 2048  # of calibration, of what is kept
LENGTHS_FILE = RESULTS / "lengths.csv"
LENGTH_NETWORK, LENGTH_BUDGET, LENGTH_EPOCHS = "resnet20", "macs:0.3", 2
LENGTHS: Mapping[str, Lengths] = {
    "as the refit leaves them": "fitted",
    "as before the refit (the default)": "former",
}
RIVAL = "Torch-Pruning LAMP, layer, recalibrated"
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
    "- Neither streams that count more nor widths by the error of outputs. Of two plans, with "
    "streams three times and without, the one with the lower error on held-out images is at most "
    "0.1 points better and up to 0.3 worse, for one refit more. Of fifteen plans it is 1.65 "
    "points worse, though its error is 9 % lower. That is with 512 calibration images, 52 of "
    "them held out; more were not tried. Streams three times gain 1.1 points for ResNet-20 at "
    "half of its MACs, as leaving them whole does, and lose 0.5 for the transformer: no rule for "
    "both was found.",
    "- One sweep of the refit is enough: a second one fits the calibration images, not the test.",
    "- Distillation keeps Adam and unmixed images. Tried by hand for ResNet-20 at `macs:0.5`, seed "
    "0, one run each of 300 steps, judged on 4,000 training images that are in no calibration set "
    "(the refit: 87.17 %, outputs that err by 0.083 of their variance; the dense network: 94.88 "
    "%). As it is: 90.75 %, 0.0466. Updates of filters made orthogonal (Muon) in place of Adam's, "
    "at the same rate: 90.60 %, 0.0467. Half of each batch blended with another image or given a "
    "patch of it, with the dense network's own answer to the mixture: 90.78 %, 0.0478. One run "
    "tells no gain of either. Not tried: other rates, more steps, lower precision, averaged "
    "weights, norms frozen late, and all of it at `macs:0.3` or for other networks.",
)


def choice_points(file: Path | None) -> Points:
    return Points(file, ("variant", "seed", "recalibrated", "refit"), ("variant", "seed"))


def length_points(file: Path | None) -> Points:
    return Points(file, ("length", "seed", "start", "finetuned"), ("length", "seed"))


def write_page() -> None:
    """The page of all points that are kept."""
    tried, trained = choice_points(CHOICES).all(), length_points(LENGTHS_FILE).all()
    weighted = section(KEPT.points(KEPT.file).all())
    parts = choices(tried), lengths(trained), weighted, DECIDED
    PAGE.write_text("\n".join(line for part in parts if part for line in (*part, "")))


def choices(points: list[Point]) -> list[str]:
    """One thing changed at a time, and the two orders."""
    seeds = sorted({point["seed"] for point in points})
    base = by_seed(points, VARIANTS[0].name, "refit")
    measurable = [variant.name for variant in VARIANTS]
    in_shares = {variant.name for variant in IN_SHARES.values()}
    removed = {point["variant"] for point in points} - {*measurable} - in_shares
    rows = []
    for name in (*measurable, *sorted(removed)):
        recalibrated, refitted = (by_seed(points, name, c) for c in ("recalibrated", "refit"))
        gain = mean(value - base[seed] for seed, value in refitted.items())
        gone = " (removed)" if name in removed else ""
        rows.append(
            [
                name + gone,
                spread(recalibrated.values()),
                spread(refitted.values()),
                f"{gain:+.2f}",
            ]
        )
    return [
        "# What was tried for the defaults",
        "",
        f"Written by `python -m benchmarks.ablations.choices --write` from `{CHOICES}`: {MODEL} on "
        f"CIFAR-10-JPEG at `{BUDGET}`, {IMAGES:,} calibration images, no training, percent of all "
        f"test images, seed {' and '.join(map(str, seeds))} (the defaults were chosen on seed 0). "
        "One thing is changed at a time, from a unit's worth in nats; *recalibrated* has "
        "batch-norm statistics of the calibration images and no refit. A difference of 0.5 points "
        "is noise. *Removed* is what lost, and whose code is gone.",
        "",
        *markdown(["variant", "recalibrated %", "refit %", "refit, against the defaults"], rows),
        "",
        "In shares, the order of the visits, and what ordering anew gains:",
        "",
        *markdown(
            ["budget", "mi, refit %", "best-first (the default since), refit %", "gain"],
            [_orders(points, budget) for budget in BUDGETS],
        ),
    ]


def _orders(points: list[Point], budget: str) -> list[str]:
    """Both orders at a budget, where a unit's worth is a share."""
    once, anew = (by_seed(points, IN_SHARES[budget, order].name, "refit") for order in ORDERS)
    gain = mean(value - once[seed] for seed, value in anew.items())
    return [budget, spread(once.values()), spread(anew.values()), f"{gain:+.2f}"]


def by_seed(points: list[Point], variant: str, column: str) -> dict[int, float]:
    """Percent of a variant by its seeds."""
    return {p["seed"]: 100 * p[column] for p in points if p["variant"] == variant}


def lengths(points: list[Point]) -> list[str]:
    """The length of filters before a batch-norm."""
    seeds = sorted({point["seed"] for point in points})
    names = dict.fromkeys([*LENGTHS, *(point["length"] for point in points)])
    return [
        f"The length of filters before a batch-norm ({LENGTH_NETWORK}, `{LENGTH_BUDGET}`, "
        f"{LENGTH_EPOCHS} epochs of fine-tuning, seeds {', '.join(map(str, seeds))}; "
        f"`python -m benchmarks.ablations.lengths --write`, `{LENGTHS_FILE}`):",
        "",
        *markdown(
            ["length", "seeds", "before %", "fine-tuned %", "gain, same seeds"],
            [_length(points, name) for name in names],
        ),
    ]


def _length(points: list[Point], length: str) -> list[str | int]:
    base = RIVAL if length.startswith(RIVAL) else next(iter(LENGTHS))
    own, plain = ({p["seed"]: p for p in points if p["length"] == n} for n in (length, base))
    gain = mean(
        p["finetuned"] - plain[seed]["finetuned"] for seed, p in own.items() if seed in plain
    )
    gone = "" if length in LENGTHS or length == base else " (removed)"
    started, tuned = ([p[c] for p in own.values()] for c in ("start", "finetuned"))
    return [length + gone, len(own), spread(started), spread(tuned), f"{gain:+.2f}"]
