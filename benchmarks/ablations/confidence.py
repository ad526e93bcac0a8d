"""The ratio that a confidence leads to: against x, against rows, for both estimators.

One dense network; each seed draws its own images, perceptrons and null columns. A point that is
in the results is not computed again. Writes a page with tables and figures.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from benchmarks.accuracy.untrained import summary
from benchmarks.shared import markdown
from benchmarks.shared.points import add_point
from mipp.activations import Sampling, capture_rows
from mipp.config import Params, load_params
from mipp.graph import ChannelGraph
from mipp.information.estimators import ESTIMATORS, PairData
from mipp.information.protocols import PairInformation
from mipp.selection.by_information import select_by_information
from mipp.stages import STAGES, preflight, run_stage
from mipp.stages.networks import load_dense, trace
from mipp.stages.splits import images_of, load_splits

CPU = torch.device("cpu")
FEWER = (
    " More rows make a test of significance sure of smaller effects, so that more stays; in the "
    "perceptrons' case longer re-training, which comes with more rows, outweighs that."
)
COLUMNS = ("estimator", "rows", "seed", "x", "units_removed")
RESULTS = Path("benchmarks/results/confidence.csv")
PAGE, FIGURE = Path("docs/confidence.md"), Path("docs/figures/confidence.png")
Point = dict[str, Any]
Rows = Mapping[str, tuple[Tensor, Tensor]]


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", default="mnist")
    options.add_argument("--model", default="lenet5")
    options.add_argument("--epochs", type=int, default=8, help="of the dense network")
    options.add_argument("--rows", type=int, nargs="+", default=[1024, 4096])
    options.add_argument("--x", type=float, nargs="+", default=[60.0, 90.0, 99.0])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options.add_argument("--workdir", type=Path, default=Path("runs/confidence"))
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--page-only", action="store_true", help="write the page from the results")
    return options.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if not options.page_only:
        measure(options)
    write_page(options)


def measure(options: argparse.Namespace) -> None:
    params = parameters(options)
    preflight(options.workdir, params)
    run_stage(STAGES["train"], options.workdir, params)
    graph = trace(load_dense(options.workdir, CPU), CPU)
    known = {key(point) for point in read()}
    for seed in options.seeds:
        for rows in options.rows:
            for estimator in ESTIMATORS:
                points = [
                    {"estimator": estimator, "rows": rows, "seed": seed, "x": x} for x in options.x
                ]
                missing = [point for point in points if key(point) not in known]
                if missing:
                    information = prepare(options, params, graph, estimator, rows, seed)
                    for point in missing:
                        add(point | {"units_removed": removed(graph, params, information, point)})


def parameters(options: argparse.Namespace) -> Params:
    return load_params(
        None,
        [
            f"data.name={options.data}",
            f"model.name={options.model}",
            f"data.calibration={max(options.rows)}",
            "train.batch_size=128",
            f"train.epochs={options.epochs}",
        ],
    )


def prepare(
    options: argparse.Namespace,
    params: Params,
    graph: ChannelGraph,
    estimator: str,
    count: int,
    seed: int,
) -> dict[str, PairInformation]:
    """Answers of an estimator from `count` random images, a row of each."""
    pool = captured(options.workdir, params, 2 * max(options.rows))
    size = len(next(iter(pool.values()))[0])
    chosen = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]
    found = {}
    for pair in graph.pairs:
        x, y = (values[chosen] for values in pool[pair.name])
        data = PairData(pair.name, *x.shape, chunks=lambda x=x, y=y: [(x, y)])  # type: ignore[misc]
        state = ESTIMATORS[estimator].prepare(data, params.estimate, seed)
        found[pair.name] = ESTIMATORS[estimator].samples(state, data, params.estimate, seed)
    return found


@cache
def captured(workdir: Path, params: Params, images: int) -> Rows:
    """One row per image and pair, of the first training images."""
    dense = load_dense(workdir, CPU)
    graph = trace(dense, CPU)
    split = load_splits(params).train.first(images)
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {pair.name: [] for pair in graph.pairs}
    sampling = Sampling(len(split), len(split), seed=0)
    for rows in capture_rows(dense.model, graph.pairs, images_of(split, 512, CPU), sampling):
        for name, part in rows.items():
            parts[name].append(part)
    return {name: stack(chunks) for name, chunks in parts.items()}


def stack(chunks: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, y = (torch.cat(part) for part in zip(*chunks, strict=True))
    return x, y


def removed(
    graph: ChannelGraph, params: Params, information: Mapping[str, PairInformation], point: Point
) -> float:
    config = params.choose.model_copy(
        update={"budget": f"confidence:{point['x']}", "estimator": point["estimator"]}
    )
    return select_by_information(graph, information, config, {}).selection.units_removed()


def key(point: Point) -> tuple[str, int, int, float]:
    return str(point["estimator"]), int(point["rows"]), int(point["seed"]), float(point["x"])


def read() -> Iterator[Point]:
    if RESULTS.exists():
        with RESULTS.open() as file:
            for row in csv.DictReader(file):
                estimator, rows, seed, x = key(row)
                yield {
                    "estimator": estimator,
                    "rows": rows,
                    "seed": seed,
                    "x": x,
                    "units_removed": float(row["units_removed"]),
                }


def add(point: Point) -> None:
    add_point(RESULTS, COLUMNS, point)
    print(*point.values(), flush=True)


def write_page(options: argparse.Namespace) -> None:
    points = list(read())
    draw(points)
    seeds = len({p["seed"] for p in points})
    page = [
        "# Confidence against ratio",
        "",
        f"Written by `python -m benchmarks.ablations.confidence` from `{RESULTS}`: {options.model} "
        f"on {options.data}, one dense network, {seeds} seeds (images, perceptrons, null columns), "
        f"`choose.margin={parameters(options).choose.margin:g}`. Percent of the units removed, "
        "mean ± standard deviation. A row is one image, at one position of each map; the "
        "reconstruction holds a sixth of the rows out.",
        "",
        *table(points),
        "",
        f"![ratio against confidence and rows]({FIGURE.relative_to(PAGE.parent)})",
        "",
        *verdicts(points),
        "",
    ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(page))
    print(PAGE.read_text())


def percents(points: list[Point], estimator: str, rows: int, x: float) -> list[float]:
    return [
        100 * p["units_removed"] for p in points if key(p)[:2] == (estimator, rows) and p["x"] == x
    ]


def axis(points: list[Point], name: str) -> list[Any]:
    return sorted({p[name] for p in points})


def table(points: list[Point]) -> list[str]:
    columns = [(e, r) for e in axis(points, "estimator") for r in axis(points, "rows")]
    header = ["x %", *(f"{estimator}, {rows:,} rows" for estimator, rows in columns)]
    rows = (
        [f"{x:g}", *(summary(percents(points, e, r, x)) for e, r in columns)]
        for x in axis(points, "x")
    )
    return markdown.table(header, rows)


def verdicts(points: list[Point]) -> list[str]:
    """Whether a higher x, and more rows, prune at least as much, per estimator, in words."""
    lines = []
    for estimator in axis(points, "estimator"):
        means = {
            (rows, x): mean(percents(points, estimator, rows, x))
            for rows in axis(points, "rows")
            for x in axis(points, "x")
        }
        in_x = all(
            means[rows, a] <= means[rows, b]
            for rows in axis(points, "rows")
            for a, b in zip(axis(points, "x"), axis(points, "x")[1:], strict=False)
        )
        steps = [
            means[b, x] - means[a, x]
            for x in axis(points, "x")
            for a, b in zip(axis(points, "rows"), axis(points, "rows")[1:], strict=False)
        ]
        more = "prune at least as much" if min(steps) >= 0 else "do not always prune as much"
        why = "" if min(steps) >= 0 else FEWER
        lines.append(
            f"- `{estimator}`: raising x {'raises' if in_x else 'does not always raise'} the mean "
            f"ratio; more rows {more} at equal x ({min(steps):+.1f} to {max(steps):+.1f} points)."
            + why
        )
    return lines


def draw(points: list[Point]) -> None:
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    estimators = axis(points, "estimator")
    figure, panels = plt.subplots(
        2, len(estimators), figsize=(8, 6), layout="constrained", sharey="row", squeeze=False
    )
    for column, estimator in enumerate(estimators):
        against_x, against_rows = panels[0][column], panels[1][column]
        for rows in axis(points, "rows"):
            means = [mean(percents(points, estimator, rows, x)) for x in axis(points, "x")]
            against_x.plot(axis(points, "x"), means, marker="o", label=f"{rows:,} rows")
        for x in axis(points, "x"):
            means = [mean(percents(points, estimator, r, x)) for r in axis(points, "rows")]
            against_rows.plot(axis(points, "rows"), means, marker="o", label=f"x = {x:g} %")
        against_x.set(title=estimator, xlabel="confidence x, %", ylabel="units removed, %")
        against_rows.set(xlabel="rows", ylabel="units removed, %", xscale="log")
        against_x.legend()
        against_rows.legend()
    figure.savefig(FIGURE, dpi=120, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
