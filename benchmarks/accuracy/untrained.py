"""Pruning before and after training, on plain and deformed images: accuracy against ratio.

Tests the paper's claim (arXiv:2411.00147v1) that deforming the images hurts pruning before
training and not after. Every point is a run of the pipeline; a point that is there is not run
again, so that a killed benchmark goes on where it stopped. Writes a page with table and figure.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib.pyplot as plt
import torch

from benchmarks.shared import markdown
from mipp.config import load_params
from mipp.stages import preflight, run_all
from mipp.workdir import fingerprint

RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95)
WHEN = {"trained": "before-pruning", "untrained": "after-pruning"}
COLUMNS = ("data", "pruned", "ratio", "seed", "accuracy", "accuracy_dense", "units_removed")
RESULTS = Path("benchmarks/results/untrained.csv")
PAGE, FIGURE = Path("docs/untrained.md"), Path("docs/figures/untrained.png")
Point = dict[str, Any]


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--data", default="mnist", help="plain set; its deformed form is NAME-deformed"
    )
    options.add_argument("--model", default="lenet5")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--epochs", type=int, default=10, help="of training, dense or pruned")
    options.add_argument(
        "--finetune", type=int, default=6, help="epochs after pruning a trained one"
    )
    options.add_argument("--workdir", type=Path, default=Path("runs/untrained"))
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--page-only", action="store_true", help="write the page from the results")
    return options.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if not options.page_only:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        points = [
            run_point(options, data, pruned, ratio, seed)
            for seed in options.seeds
            for data in (options.data, f"{options.data}-deformed")
            for pruned in WHEN
            for ratio in RATIOS
        ]
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(points)
    write_page(options)


def run_point(
    options: argparse.Namespace, data: str, pruned: str, ratio: float, seed: int
) -> Point:
    """One run of the pipeline; runs that differ in the ratio alone share the dense network."""
    params = load_params(None, overrides(options, data, pruned, ratio, seed))
    folder = options.workdir / f"{data}-{pruned}-{seed}"
    done = folder / f"point-{fingerprint(params.model_dump(mode='json'))[:12]}.json"
    if not done.exists():
        preflight(folder, params)
        run_all(folder, params)
        done.write_text((folder / "evaluate/metrics.json").read_text())
    metrics = json.loads(done.read_text())
    point = {
        "data": data,
        "pruned": pruned,
        "ratio": ratio,
        "seed": seed,
        "accuracy": metrics["accuracy_finetuned"],
        "accuracy_dense": metrics["accuracy_dense"],
        "units_removed": round(metrics["units_removed"], 4),
    }
    print(*point.values(), flush=True)
    return point


def overrides(
    options: argparse.Namespace, data: str, pruned: str, ratio: float, seed: int
) -> list[str]:
    return [
        f"data.name={data}",
        f"model.name={options.model}",
        "data.calibration=2048",
        "train.batch_size=128",
        "finetune.batch_size=128",
        f"train.epochs={options.epochs}",
        f"finetune.epochs={options.finetune}",
        "finetune.start=pruned",
        f"train.when={WHEN[pruned]}",
        f"choose.budget=ratio:{ratio}",
        f"seed={seed}",
    ]


def write_page(options: argparse.Namespace) -> None:
    with RESULTS.open() as file:
        points = [
            {**row, **{k: float(row[k]) for k in COLUMNS[2:]}} for row in csv.DictReader(file)
        ]
    PAGE.parent.mkdir(exist_ok=True)
    draw(points)
    seeds = len({p["seed"] for p in points})
    page = [
        "# Pruning before and after training, plain and deformed images",
        "",
        f"Written by `python -m benchmarks.accuracy.untrained` from `{RESULTS}`: LeNet-5, {seeds} "
        f"seeds, {options.epochs} epochs of training, {options.finetune} of fine-tuning for "
        "networks pruned after training, closed-form estimator, budget `ratio`. Test accuracy in "
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
    print(PAGE.read_text())


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
    cells = [summary(dense[data]) if pruned == "trained" else "" for data, pruned in columns]
    rows = [["0 (dense)", *cells]]
    for ratio in sorted({p["ratio"] for p in points}):
        found = [accuracies(points, data, pruned, ratio).values() for data, pruned in columns]
        rows.append([f"{ratio:g}", *(summary(list(values)) for values in found)])
    header = ["units removed", *(f"{data}, {pruned}" for data, pruned in columns)]
    return markdown.table(header, rows)


def summary(values: list[float]) -> str:
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{spread}"


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
            f"- ratio {ratio:g}: deformation costs {summary(here['trained'])} points when "
            f"pruned after training and {summary(here['untrained'])} before; difference "
            f"{summary(extra)}."
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
