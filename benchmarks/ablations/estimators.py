"""The paper's estimator beside the closed form: seconds, kept units, accuracy at equal ratio.

First both estimate and choose on the same activation rows of one dense network, timed. Then per
seed a run of the pipeline with the paper's estimator and `confidence:95`, and one with the closed
form under the ratio that came out; both fine-tuned alike. Stages that are in the work directories
are not run again.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from benchmarks.shared.command import add_again, circumstances, parse, parser
from benchmarks.shared.kept import RESULTS, Point, Points, read_json, write_json
from benchmarks.shared.tables import markdown, print_table, spread
from mipp.activations import open_store
from mipp.config import Params, load_params
from mipp.disk.storage import Workdir
from mipp.information.estimators import ESTIMATORS
from mipp.progress import track
from mipp.selection.by_information import select_by_information
from mipp.selection.selection import Selection
from mipp.settings import Mipp
from mipp.stages import STAGES, preflight, run_all, run_stage
from mipp.stages.estimate import pair_data
from mipp.stages.files import STORE, model_fingerprint
from mipp.stages.networks import load_dense, trace
from mipp.stages.values import method_of

STEPS = ("seconds", "accuracy")
COMPARED = ("gaussian", "reconstruction")
CPU = torch.device("cpu")
FILE, SECONDS = RESULTS / "estimators.csv", RESULTS / "estimators-seconds.json"
PAGE = Path("docs/estimators.md")
KEY = ("estimator", "seed")
MEASURED = ("units_removed", "params", "accuracy_dense", "accuracy_refit", "accuracy")
COLUMNS = (*KEY, *MEASURED, "agreement", "chance")
DATA, MODEL, IMAGES = "mnist", "lenet5", 6144  # 5,120 rows to train, 1,024 held out
FINETUNE, BUDGET = 4, "confidence:95"
HEADER = (
    *("seed", "units removed %", "dense %", "refit, reconstruction", "refit, gaussian"),
    *("fine-tuned, reconstruction", "fine-tuned, gaussian"),
    *("kept sets agree %", "by chance %"),
)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("ablations.estimators", __doc__ or "", PAGE)
    add_again(options)
    options.add_argument("--data", default=DATA, help="data.name")
    options.add_argument("--model", default=MODEL, help="any network that mipp names")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of everything")
    options.add_argument("--images", type=int, default=IMAGES, help="one row each")
    options.add_argument("--epochs", type=int, default=8, help="of the dense network")
    options.add_argument("--finetune", type=int, default=FINETUNE, help="epochs after pruning")
    options.add_argument("--budget", default=BUDGET, help="of the paper's estimator")
    options.add_argument(
        "--workdir", type=Path, default=Path("runs/estimators"), help="folder of the runs"
    )
    options.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="what to measure")
    fixed = ("data", "model", "images", "epochs", "finetune", "budget")
    return parse(options, given, fixed)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    if "seconds" in options.steps:
        seconds = time_estimators(options)
        if options.write:
            write_json(SECONDS, seconds)
    if "accuracy" in options.steps:
        points = Points(FILE if options.write else None, COLUMNS, KEY)
        for seed in track(options.seeds, total=len(options.seeds), label="seeds"):
            every = [{"estimator": name, "seed": seed} for name in COMPARED]
            if options.again or points.missing(every):
                for point in compare(options, seed):
                    points.add(point)
        print_table(points.all())
    circumstances(options)
    if options.write:
        write_page()


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
    preflight(Workdir(folder), params)
    for stage in ("train", "extract"):
        run_stage(STAGES[stage], Workdir(folder), params)
    store = open_store(folder / STORE, model_fingerprint(folder))
    graph = trace(load_dense(folder, CPU), CPU)
    found: dict[str, dict[str, float]] = {}
    for name, budget in (("gaussian", "ratio:0.5"), ("reconstruction", options.budget)):
        chosen = parameters(options, name, budget, seed)
        method, estimator, spent, information = method_of(chosen), ESTIMATORS[name], {}, {}
        assert isinstance(method, Mipp)
        answers = estimator.samples if name == "reconstruction" else estimator.answers
        for pair in store.pairs:
            started = time.perf_counter()
            data = pair_data(store, pair, CPU)
            state = estimator.prepare(data, method.estimator, seed)
            information[pair] = answers(state, data, method.estimator, seed)
            spent[f"prepare {pair}"] = time.perf_counter() - started
        started = time.perf_counter()
        select_by_information(graph, information, method, chosen.choose.budget)
        spent["choose"] = time.perf_counter() - started
        found[name] = spent
        print(name, {step: round(seconds, 3) for step, seconds in spent.items()}, flush=True)
    return found


def compare(options: argparse.Namespace, seed: int) -> list[Point]:
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
    both_agree = {"agreement": agreement, "chance": chance}
    return [
        {"estimator": name, "seed": seed, "accuracy": metrics["accuracy_finetuned"]}
        | {column: metrics[column] for column in MEASURED if column in metrics}
        | both_agree
        for name, metrics in (("reconstruction", first), ("gaussian", second))
    ]


def run(folder: Path, params: Params) -> dict[str, Any]:
    preflight(Workdir(folder), params)
    run_all(Workdir(folder), params)
    metrics: dict[str, Any] = read_json(folder / "evaluate/metrics.json")
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


def write_page() -> None:
    """Write the page of both steps from what is kept."""
    seconds, rows = read_json(SECONDS), Points(FILE, COLUMNS, KEY).all()
    totals = {name: sum(spent.values()) for name, spent in seconds.items()}
    page = [
        "# The paper's estimator beside the closed form",
        "",
        f"Written by `python -m benchmarks.ablations.estimators --write` from `{RESULTS}`: {MODEL} "
        f"on {DATA}, {IMAGES:,} calibration images.",
        "",
        "## Seconds on the same rows, one process",
        "",
        *markdown(
            ["step", "reconstruction", "gaussian"],
            [
                *(
                    [step, f"{seconds['reconstruction'][step]:.2f}", f"{ours:.3f}"]
                    for step, ours in seconds["gaussian"].items()
                ),
                ["all", f"{totals['reconstruction']:.1f}", f"{totals['gaussian']:.3f}"],
            ],
        ),
        "",
        f"The closed form is {totals['reconstruction'] / totals['gaussian']:.0f} times faster. "
        "Choosing is one walk of significance tests for the paper's estimator, and the search of "
        "a threshold for the closed form.",
        "",
        "## Accuracy at equal ratio",
        "",
        f"The paper's estimator prunes under `{BUDGET}`, the closed form is given the "
        f"ratio that came out; both networks are fine-tuned alike ({FINETUNE} epochs).",
        "",
        *accuracy_table(rows),
        "",
        *conclusion(rows),
        "",
    ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(page))


def accuracy_table(rows: list[Point]) -> list[str]:
    """A line for each seed, in percent."""
    by_seed: dict[int, dict[str, Point]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], {})[row["estimator"]] = row
    lines = []
    for seed, both in by_seed.items():
        theirs, ours = both["reconstruction"], both["gaussian"]
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
        lines.append([seed, *(f"{100 * cell:.2f}" for cell in cells)])
    return markdown(HEADER, lines)


def conclusion(rows: list[Point]) -> list[str]:
    percent = {
        name: [100 * row["accuracy"] for row in rows if row["estimator"] == name]
        for name in ("reconstruction", "gaussian")
    }
    theirs, ours = percent["reconstruction"], percent["gaussian"]
    deviation = stdev(theirs) if len(theirs) > 1 else float("nan")
    gap = mean(ours) - mean(theirs)
    word = "is not worse by more than" if gap >= -deviation else "is worse by more than"
    return [
        f"Fine-tuned, mean ± standard deviation over seeds: reconstruction {spread(theirs)}, "
        f"gaussian {spread(ours)}; difference {gap:+.2f} points. The closed form {word} one "
        f"standard deviation ({deviation:.2f})."
    ]


if __name__ == "__main__":
    main()
