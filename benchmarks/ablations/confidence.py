"""The ratio that a confidence leads to: against x, against rows, for both estimators.

One dense network; each seed draws its own images, perceptrons and null columns. With --write a run
that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from benchmarks.ablations.estimators import COMPARED
from benchmarks.shared.command import add_again, circumstances, parse, parser
from benchmarks.shared.kept import RESULTS, Point, Points
from benchmarks.shared.tables import markdown, print_table, spread
from mipp.activations import Sampling, capture_rows
from mipp.budget import Budget
from mipp.config import Params, load_params
from mipp.disk.storage import Workdir
from mipp.graph import ChannelGraph
from mipp.information.estimators import ESTIMATORS, PairData
from mipp.information.protocols import PairInformation
from mipp.progress import track
from mipp.selection.by_information import select_by_information
from mipp.settings import Mipp
from mipp.stages import STAGES, preflight, run_stage
from mipp.stages.networks import load_dense, trace
from mipp.stages.splits import images_of, load_splits
from mipp.stages.values import estimator_settings, method_of

CPU = torch.device("cpu")
FEWER = (
    " More rows make a test of significance sure of smaller effects, so that more stays; in the "
    "perceptrons' case longer re-training, which comes with more rows, outweighs that."
)
KEY = ("estimator", "rows", "seed", "x")
COLUMNS = (*KEY, "units_removed")
FILE = RESULTS / "confidence.csv"
PAGE, FIGURE = Path("docs/confidence.md"), Path("docs/figures/confidence.png")
DATA, MODEL, EPOCHS = "mnist", "lenet5", 8  # of what is kept
Rows = Mapping[str, tuple[Tensor, Tensor]]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("ablations.confidence", __doc__ or "", PAGE)
    add_again(options)
    options.add_argument("--data", default=DATA, help="data.name")
    options.add_argument("--model", default=MODEL, help="any network that mipp names")
    options.add_argument("--epochs", type=int, default=EPOCHS, help="of the dense network")
    options.add_argument("--rows", type=int, nargs="+", default=[1024, 4096], help="one an image")
    options.add_argument(
        "--x", type=float, nargs="+", default=[60.0, 90.0, 99.0], help="confidences, percent"
    )
    options.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of all else"
    )
    options.add_argument(
        "--workdir", type=Path, default=Path("runs/confidence"), help="of the dense network"
    )
    return parse(options, given, fixed=("data", "model", "epochs"))


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    points = Points(FILE if options.write else None, COLUMNS, KEY)
    measure(options, points)
    print_table(points.all())
    circumstances(options)
    if options.write:
        write_page()


def measure(options: argparse.Namespace, points: Points) -> None:
    params = parameters(options)
    preflight(Workdir(options.workdir), params)
    run_stage(STAGES["train"], Workdir(options.workdir), params)
    graph = trace(load_dense(options.workdir, CPU), CPU)
    pool = captured(options.workdir, params, 2 * max(options.rows))
    cases = list(itertools.product(options.seeds, options.rows, COMPARED))
    for seed, rows, estimator in track(cases, total=len(cases), label="estimators"):
        every = [{"estimator": estimator, "rows": rows, "seed": seed, "x": x} for x in options.x]
        wanted = every if options.again else points.missing(every)
        if wanted:
            information = prepare(params, pool, estimator, rows, seed)
        for point in wanted:
            points.add(point | {"units_removed": removed(graph, params, information, point)})


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
    params: Params, pool: Rows, estimator: str, count: int, seed: int
) -> dict[str, PairInformation]:
    """Answers of an estimator from `count` random images, a row of each."""
    size = len(next(iter(pool.values()))[0])
    chosen = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]
    found, row = {}, ESTIMATORS[estimator]
    settings = estimator_settings(with_estimator(params, estimator))
    for pair, rows in pool.items():
        x, y = (values[chosen] for values in rows)
        data = PairData(pair, *x.shape, chunks=lambda x=x, y=y: [(x, y)])  # type: ignore[misc]
        state = row.prepare(data, settings, seed)
        found[pair] = row.samples(state, data, settings, seed)
    return found


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
    method = method_of(with_estimator(params, point["estimator"]))
    assert isinstance(method, Mipp)
    budget = Budget("confidence", float(point["x"]))
    return select_by_information(graph, information, method, budget).selection.units_removed()


def with_estimator(params: Params, estimator: str) -> Params:
    choose = params.choose.model_copy(update={"estimator": estimator})
    return params.model_copy(update={"choose": choose})


def write_page() -> None:
    """Write page and figure from all points that are kept."""
    points = Points(FILE, COLUMNS, KEY).all()
    draw(points)
    seeds = len({p["seed"] for p in points})
    page = [
        "# Confidence against ratio",
        "",
        f"Written by `python -m benchmarks.ablations.confidence --write` from `{FILE}`: {MODEL} "
        f"on {DATA}, one dense network, {seeds} seeds (images, perceptrons, null columns), "
        f"`choose.margin={Mipp.margin:g}`. Percent of the units removed, "
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


def percents(points: list[Point], estimator: str, rows: int, x: float) -> list[float]:
    return [
        100 * p["units_removed"]
        for p in points
        if (p["estimator"], p["rows"], p["x"]) == (estimator, rows, x)
    ]


def axis(points: list[Point], name: str) -> list[Any]:
    return sorted({p[name] for p in points})


def table(points: list[Point]) -> list[str]:
    columns = [(e, r) for e in axis(points, "estimator") for r in axis(points, "rows")]
    header = ["x %", *(f"{estimator}, {rows:,} rows" for estimator, rows in columns)]
    rows = (
        [f"{x:g}", *(spread(percents(points, e, r, x)) for e, r in columns)]
        for x in axis(points, "x")
    )
    return markdown(header, rows)


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
