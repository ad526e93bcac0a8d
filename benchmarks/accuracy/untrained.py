"""Pruning before and after training, on plain and deformed images: accuracy against ratio.

Tests the paper's claim (arXiv:2411.00147v1) that deforming the images hurts pruning before
training and not after. A point is a run of the pipeline. With --write a run that is cut short goes
on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
import torch

from benchmarks.shared.command import add_again, circumstances, parse, parser
from benchmarks.shared.kept import RESULTS, Point, Points
from benchmarks.shared.tables import markdown, print_table, spread
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.progress import track
from mipp.stages import preflight, run_all
from mipp.stages.files import read_json

RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95)
WHEN = {"trained": "before-pruning", "untrained": "after-pruning"}
KEY = ("data", "pruned", "ratio", "seed")
COLUMNS = (*KEY, "accuracy", "accuracy_dense", "units_removed")
FILE = RESULTS / "untrained.csv"
PAGE, FIGURE = Path("docs/untrained.md"), Path("docs/figures/untrained.png")
EPOCHS, FINETUNE = 10, 6  # of what is kept


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("accuracy.untrained", __doc__ or "", PAGE)
    add_again(options)
    options.add_argument(
        "--data", default="mnist", help="plain set; its deformed form is NAME-deformed"
    )
    options.add_argument("--model", default="lenet5", help="any network that mipp names")
    options.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="of units removed")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of everything")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--epochs", type=int, default=EPOCHS, help="of training, dense or pruned")
    options.add_argument(
        "--finetune", type=int, default=FINETUNE, help="epochs after pruning a trained one"
    )
    options.add_argument(
        "--workdir", type=Path, default=Path("runs/untrained"), help="folder of the runs"
    )
    return parse(options, given, fixed=("data", "model", "images", "epochs", "finetune"))


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    points = Points(FILE if options.write else None, COLUMNS, KEY)
    every = [
        dict(zip(KEY, (data, pruned, ratio, seed), strict=True))
        for seed in options.seeds
        for data in (options.data, f"{options.data}-deformed")
        for pruned in WHEN
        for ratio in options.ratios
    ]
    wanted = every if options.again else points.missing(every)
    for point in track(wanted, total=len(wanted), label="points"):
        points.add(point | measure(options, point))
    print_table(points.all())
    circumstances(options)
    if options.write:
        write_page()


def measure(options: argparse.Namespace, point: Point) -> Point:
    """One run of the pipeline; runs that differ in the ratio alone share the dense network."""
    params = load_params(None, overrides(options, point), ("train.when",))
    folder = options.workdir / f"{point['data']}-{point['pruned']}-{point['seed']}"
    preflight(Workdir(folder), params)
    run_all(Workdir(folder), params)
    metrics = read_json(folder / "evaluate/metrics.json")
    return {
        "accuracy": metrics["accuracy_finetuned"],
        "accuracy_dense": metrics["accuracy_dense"],
        "units_removed": round(metrics["units_removed"], 4),
    }


def overrides(options: argparse.Namespace, point: Point) -> list[str]:
    return [
        f"data.name={point['data']}",
        f"model.name={options.model}",
        f"data.calibration={options.images}",
        "train.batch_size=128",
        "finetune.batch_size=128",
        f"train.epochs={options.epochs}",
        f"finetune.epochs={options.finetune}",
        "finetune.start=pruned",
        f"train.when={WHEN[point['pruned']]}",
        f"choose.budget=ratio:{point['ratio']}",
        f"seed={point['seed']}",
    ]


def write_page() -> None:
    """Write page and figure from all points that are kept."""
    points = Points(FILE, COLUMNS, KEY).all()
    PAGE.parent.mkdir(exist_ok=True)
    draw(points)
    seeds = len({p["seed"] for p in points})
    page = [
        "# Pruning before and after training, plain and deformed images",
        "",
        f"Written by `python -m benchmarks.accuracy.untrained --write` from `{FILE}`: LeNet-5, "
        f"{seeds} seeds, {EPOCHS} epochs of training, {FINETUNE} of fine-tuning for networks "
        "pruned after training, closed-form estimator, budget `ratio`. Test accuracy in "
        "percent, mean ± standard deviation over seeds; the seed also draws the deformations (per "
        "image one of rotation, shear, scale, translation, elastic, none).",
        "",
        *table(points),
        "",
        f"![accuracy against ratio]({FIGURE.relative_to(PAGE.parent)})",
        "",
        "## The paper's claim",
        "",
        *verdict(points),
        "",
    ]
    PAGE.write_text("\n".join(page))


def accuracies(points: list[Point], data: str, pruned: str, ratio: float) -> dict[float, float]:
    """Seed -> percent."""
    return {
        p["seed"]: 100 * p["accuracy"]
        for p in points
        if (p["data"], p["pruned"], p["ratio"]) == (data, pruned, ratio)
    }


def sets(points: list[Point]) -> tuple[str, str]:
    plain, deformed = sorted({p["data"] for p in points}, key=len)
    return plain, deformed


def table(points: list[Point]) -> list[str]:
    columns = [(data, pruned) for data in sets(points) for pruned in WHEN]
    dense = {
        data: [
            100 * p["accuracy_dense"]
            for p in points
            if (p["data"], p["pruned"]) == (data, "trained")
        ]
        for data in sets(points)
    }
    cells = [spread(dense[data]) if pruned == "trained" else "" for data, pruned in columns]
    rows = [["0 (dense)", *cells]]
    for ratio in sorted({p["ratio"] for p in points}):
        found = [accuracies(points, data, pruned, ratio).values() for data, pruned in columns]
        rows.append([f"{ratio:g}", *(spread(values) for values in found)])
    header = ["units removed", *(f"{data}, {pruned}" for data, pruned in columns)]
    return markdown(header, rows)


BROKEN = 0.8  # a network below this accuracy has lost its function: no claim rests on it


def verdict(points: list[Point]) -> list[str]:
    """What deformation costs a pruned network, before and after training, in words."""
    plain, deformed = sets(points)
    lines = []
    costs: dict[str, list[float]] = {pruned: [] for pruned in WHEN}
    for ratio in sorted({p["ratio"] for p in points}):
        here = {}
        for pruned in WHEN:
            a, b = (accuracies(points, data, pruned, ratio) for data in (plain, deformed))
            here[pruned] = [a[seed] - b[seed] for seed in a]
        worst = min(p["accuracy"] for p in points if p["ratio"] == ratio)
        if worst < BROKEN:
            lines.append(
                f"- ratio {ratio:g}: not counted, a network is broken there ({100 * worst:.1f} %)."
            )
            continue
        extra = [u - t for u, t in zip(here["untrained"], here["trained"], strict=True)]
        lines.append(
            f"- ratio {ratio:g}: deformation costs {spread(here['trained'])} points when "
            f"pruned after training and {spread(here['untrained'])} before; difference "
            f"{spread(extra)}."
        )
        for pruned in WHEN:
            costs[pruned] += here[pruned]
    return [*lines, "", conclusion(points, costs)]


def conclusion(points: list[Point], costs: dict[str, list[float]]) -> str:
    plain, deformed = sets(points)
    dense = {
        data: mean(
            p["accuracy_dense"] for p in points if (p["data"], p["pruned"]) == (data, "trained")
        )
        for data in (plain, deformed)
    }
    extra = [u - t for u, t in zip(costs["untrained"], costs["trained"], strict=True)]
    error = stdev(extra) / len(extra) ** 0.5
    gap = mean(extra)
    if gap > 2 * error:
        word = "confirmed: deformation hurts pruning before training more than after."
    elif gap < -2 * error:
        word = "refuted: deformation hurts pruning after training more than before."
    else:
        word = "not confirmed: deformation costs the same before and after training, within error."
    return (
        f"Over these ratios and seeds deformation costs {mean(costs['untrained']):.2f} points "
        f"before training and {mean(costs['trained']):.2f} after (the dense network loses "
        f"{100 * (dense[plain] - dense[deformed]):.2f}): a difference of {gap:+.2f} ± {error:.2f} "
        f"(standard error). The paper's claim that deformation hurts pruning before training, and "
        f"not after, is here {word}"
    )


def draw(points: list[Point]) -> None:
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    ratios = sorted({p["ratio"] for p in points})
    for data, style in zip(sets(points), ("-", "--"), strict=True):
        for pruned, colour in zip(WHEN, ("tab:blue", "tab:orange"), strict=True):
            found = [list(accuracies(points, data, pruned, r).values()) for r in ratios]
            axes.errorbar(
                ratios,
                [mean(v) for v in found],
                [stdev(v) if len(v) > 1 else 0 for v in found],
                label=f"{data}, {pruned}",
                linestyle=style,
                color=colour,
                capsize=3,
            )
    axes.set_xlabel("units removed")
    axes.set_ylabel("test accuracy, %")
    axes.legend()
    figure.savefig(FIGURE, dpi=120, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
