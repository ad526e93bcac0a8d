"""The paper's estimator beside the closed form: seconds, kept units, accuracy at equal ratio.

First both estimate and choose on the same activation rows of one dense network, timed. Then per
seed a run of the pipeline with the paper's estimator and `confidence:95`, and one with the closed
form under the ratio that came out; both fine-tuned alike. Runs that are there are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.untrained import summary
from mipp.activations import open_store
from mipp.config import Params, load_params
from mipp.information.estimators import ESTIMATORS
from mipp.selection.by_information import select_by_information
from mipp.selection.selection import Selection
from mipp.stages import STAGES, preflight, run_all, run_stage
from mipp.stages.estimate import pair_data
from mipp.stages.files import STORE, model_fingerprint
from mipp.stages.networks import load_dense, trace

STEPS = ["seconds", "accuracy", "page"]
CPU = torch.device("cpu")
RESULTS = Path("benchmarks/results/estimators.csv")
SECONDS = Path("benchmarks/results/estimators-seconds.json")
PAGE = Path("docs/estimators.md")
COLUMNS = (
    "estimator",
    "seed",
    "units_removed",
    "params",
    "accuracy_dense",
    "accuracy_refit",
    "accuracy",
)


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", default="mnist")
    options.add_argument("--model", default="lenet5")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument(
        "--images", type=int, default=6144, help="5,120 rows to train, 1,024 held out"
    )
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--finetune", type=int, default=4)
    options.add_argument("--budget", default="confidence:95", help="of the paper's estimator")
    options.add_argument("--workdir", type=Path, default=Path("runs/estimators"))
    options.add_argument(
        "--steps",
        nargs="+",
        choices=STEPS,
        default=STEPS,
        help="what to measure anew; the rest comes from the results (default: everything)",
    )
    return options.parse_args()


def main() -> None:
    options = arguments()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    if "seconds" in options.steps:
        SECONDS.write_text(json.dumps(time_estimators(options), indent=1))
    if "accuracy" in options.steps:
        rows = [row for seed in options.seeds for row in compare(options, seed)]
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, (*COLUMNS, "agreement", "chance"))
            writer.writeheader()
            writer.writerows(rows)
    write_page(options)


def parameters(options: argparse.Namespace, estimator: str, budget: str, seed: int) -> Params:
    return load_params(
        None,
        [
            f"data.name={options.data}",
            f"model.name={options.model}",
            f"data.calibration={options.images}",
            f"extract.rows={options.images}",
            "train.batch_size=128",
            "finetune.batch_size=128",
            f"train.epochs={options.epochs}",
            f"finetune.epochs={options.finetune}",
            "finetune.start=pruned",
            f"choose.estimator={estimator}",
            f"choose.budget={budget}",
            f"seed={seed}",
        ],
    )


def time_estimators(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of each estimator on the same rows: per pair to prepare, and to choose."""
    seed = options.seeds[0]
    folder = options.workdir / f"reconstruction-{seed}"
    params = parameters(options, "reconstruction", options.budget, seed)
    preflight(folder, params)
    for stage in ("train", "extract"):
        run_stage(STAGES[stage], folder, params)
    store = open_store(folder / STORE, model_fingerprint(folder))
    graph = trace(load_dense(folder, CPU), CPU)
    found: dict[str, dict[str, float]] = {}
    for name, budget in (("gaussian", "ratio:0.5"), ("reconstruction", options.budget)):
        chosen = parameters(options, name, budget, seed)
        estimator, spent, information = ESTIMATORS[name], {}, {}
        answers = estimator.samples if name == "reconstruction" else estimator.answers
        for pair in store.pairs:
            started = time.perf_counter()
            data = pair_data(store, pair, CPU)
            state = estimator.prepare(data, chosen.estimate, seed)
            information[pair] = answers(state, data, chosen.estimate, seed)
            spent[f"prepare {pair}"] = time.perf_counter() - started
        started = time.perf_counter()
        select_by_information(graph, information, chosen.choose, {})
        spent["choose"] = time.perf_counter() - started
        found[name] = spent
        print(name, {step: round(seconds, 3) for step, seconds in spent.items()}, flush=True)
    return found


def compare(options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Both estimators on one dense network, at the ratio that the paper's rule arrives at."""
    theirs = options.workdir / f"reconstruction-{seed}"
    ours = options.workdir / f"gaussian-{seed}"
    first = run(theirs, parameters(options, "reconstruction", options.budget, seed))
    for stage in ("train", "extract"):
        if not (ours / stage).exists():
            shutil.copytree(theirs / stage, ours / stage)
    ratio = f"ratio:{first['units_removed']:.6f}"
    second = run(ours, parameters(options, "gaussian", ratio, seed))
    both = [Selection.from_json((f / "choose/selection.json").read_text()) for f in (theirs, ours)]
    agreement, chance = agree(*both)
    rows = []
    for name, metrics in (("reconstruction", first), ("gaussian", second)):
        row = {"estimator": name, "seed": seed, "accuracy": metrics["accuracy_finetuned"]}
        row |= {key: metrics[key] for key in COLUMNS if key in metrics}
        rows.append({**row, "agreement": agreement, "chance": chance})
        print(rows[-1], flush=True)
    return rows


def run(folder: Path, params: Params) -> dict[str, Any]:
    preflight(folder, params)
    run_all(folder, params)
    metrics: dict[str, Any] = json.loads((folder / "evaluate/metrics.json").read_text())
    return metrics


def agree(a: Selection, b: Selection) -> tuple[float, float]:
    """Share of units that both keep or both drop, and what it would be by chance in each group."""
    same = expected = 0.0
    for group, width in a.width.items():
        kept = [np.isin(np.arange(width), s.kept[group]) for s in (a, b)]
        p, q = (k.mean() for k in kept)
        same += float((kept[0] == kept[1]).sum())
        expected += width * float(p * q + (1 - p) * (1 - q))
    units = sum(a.width.values())
    return same / units, expected / units


def write_page(options: argparse.Namespace) -> None:
    with RESULTS.open() as file:
        rows = list(csv.DictReader(file))
    seconds = json.loads(SECONDS.read_text())
    totals = {name: sum(spent.values()) for name, spent in seconds.items()}
    steps = list(seconds["gaussian"])
    page = [
        "# The paper's estimator beside the closed form",
        "",
        f"Written by `python -m benchmarks.ablations.estimators` from `{RESULTS.parent}`: "
        f"{options.model} on {options.data}, {options.images:,} calibration images.",
        "",
        "## Seconds on the same rows, one process",
        "",
        "| step | reconstruction | gaussian |",
        "| --- | --- | --- |",
        *(
            f"| {step} | {seconds['reconstruction'][step]:.2f} | {seconds['gaussian'][step]:.3f} |"
            for step in steps
        ),
        f"| all | {totals['reconstruction']:.1f} | {totals['gaussian']:.3f} |",
        "",
        f"The closed form is {totals['reconstruction'] / totals['gaussian']:.0f} times faster. "
        "Choosing is one walk of significance tests for the paper's estimator, and the search of "
        "a threshold for the closed form.",
        "",
        "## Accuracy at equal ratio",
        "",
        f"The paper's estimator prunes under `{options.budget}`, the closed form is given the "
        f"ratio that came out; both networks are fine-tuned alike ({options.finetune} epochs).",
        "",
        *accuracy_table(rows),
        "",
        *conclusion(rows),
        "",
    ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(page))
    print(PAGE.read_text())


def accuracy_table(rows: list[dict[str, str]]) -> list[str]:
    lines = [
        "| seed | units removed % | dense % | refit, reconstruction | refit, gaussian "
        "| fine-tuned, reconstruction | fine-tuned, gaussian | kept sets agree % | by chance % |",
        "| --- " * 9 + "|",
    ]
    for theirs, ours in zip(rows[::2], rows[1::2], strict=True):
        cells = [
            theirs["units_removed"],
            theirs["accuracy_dense"],
            theirs["accuracy_refit"],
            ours["accuracy_refit"],
            theirs["accuracy"],
            ours["accuracy"],
            theirs["agreement"],
            theirs["chance"],
        ]
        shown = [f"{100 * float(cell):.2f}" for cell in cells]
        lines.append(f"| {theirs['seed']} | {' | '.join(shown)} |")
    return lines


def conclusion(rows: list[dict[str, str]]) -> list[str]:
    percent = {
        name: [100 * float(row["accuracy"]) for row in rows if row["estimator"] == name]
        for name in ("reconstruction", "gaussian")
    }
    theirs, ours = percent["reconstruction"], percent["gaussian"]
    spread = stdev(theirs) if len(theirs) > 1 else float("nan")
    gap = mean(ours) - mean(theirs)
    word = "is not worse by more than" if gap >= -spread else "is worse by more than"
    return [
        f"Fine-tuned, mean ± standard deviation over seeds: reconstruction {summary(theirs)}, "
        f"gaussian {summary(ours)}; difference {gap:+.2f} points. The closed form {word} one "
        f"standard deviation ({spread:.2f})."
    ]


if __name__ == "__main__":
    main()
