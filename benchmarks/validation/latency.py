"""Budgets of time: the share of the dense network's time that is asked for, and that is measured.

Networks with random weights are scored by L1 under the budget, pruned, and timed once more in
turns with the dense network, by a measurement that the selection has not seen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.command import circumstances, parse, parser
from benchmarks.shared.kept import RESULTS, read_json, write_json
from benchmarks.shared.tables import markdown_of, print_table
from mipp.budget import parse_budget
from mipp.criteria import CRITERIA, CriterionInput
from mipp.device import resolve_device
from mipp.graph import build_graph
from mipp.latency import Clock, within_time
from mipp.models import ModelSpec, build_model
from mipp.progress import track
from mipp.selection.by_scores import select_by_criterion
from mipp.selection.limits import floors_of
from mipp.settings import Criterion, Limits

PAGE, FILE = Path("docs/latency.md"), RESULTS / "latency.json"
TARGET = 0.10  # relative error
PAGE_TEXT = """# Time as a budget

Written by `{command}`: {budget}, random weights, {size} pixels, units scored by L1. The network is
pruned and timed again in turns with the dense one, by a measurement that the selection has not
seen. Device: {device}. First error: of the selection that the table alone predicts to meet the
budget; error: of the one that was taken after {tries} selections at most.

{table}

The target is an error within {target:.0f} %: {verdict}. The seconds are those of the whole
selection, its table and its timings of whole networks; they, like the times, are measured on a
machine that others use too. Two runs may choose differently, because their measurements differ.
"""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("validation.latency", __doc__ or "", PAGE)
    options.set_defaults(threads=1)
    options.add_argument(
        "--models", nargs="+", default=["mobilenet_v2", "resnet18"], help="that mipp names"
    )
    options.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="images at once")
    options.add_argument("--size", type=int, default=64, help="image side in pixels")
    options.add_argument("--budget", default="latency:0.7", help="choose.budget")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parse(options, given)


def measure(options: argparse.Namespace, name: str, batch: int) -> dict[str, Any]:
    """Select under the budget, and time what came of it."""
    device = resolve_device(options.device)
    shape = (3, options.size, options.size)
    model = build_model(ModelSpec(name, classes=10, channels=3, size=options.size), seed=0)
    model.to(device).eval()
    graph = build_graph(model, torch.zeros(1, *shape, device=device))
    scores = CRITERIA["l1"](CriterionInput(model, graph, list, 0))
    method, budget = Criterion("l1"), parse_budget(options.budget)
    clock = Clock(model, shape, batch, device)
    started = time.perf_counter()
    choice, report = within_time(
        lambda timed, asked: select_by_criterion(timed, scores, method, asked),
        graph,
        budget,
        floors_of(graph, Limits()),
        clock,
    )
    seconds, selection = time.perf_counter() - started, choice.selection
    best, wanted = report.best(), budget.value
    assert best is not None
    measured = clock.share(selection)
    return {
        "network": name,
        "batch": batch,
        "target": wanted,
        "macs": graph.macs(selection.counts()) / graph.macs(graph.widths),
        "predicted": best.predicted,
        "measured": measured,
        "first error %": 100 * (report.tries[0].measured / wanted - 1),
        "error %": 100 * (measured / wanted - 1),
        "selections": len(report.tries),
        "seconds": seconds,
    }


def write_page() -> None:
    """The page of the run that is kept."""
    results = read_json(FILE)
    rows = results["rows"]
    PAGE.write_text(
        PAGE_TEXT.format(
            command=results["command"],
            budget=f"`{results['budget']}`",
            size=results["size"],
            device=results["device"],
            tries=max(row["selections"] for row in rows),
            table="\n".join(markdown_of(rows, _rounded)),
            target=100 * TARGET,
            verdict=verdict(rows),
        )
    )


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether every error is within the target, in words."""
    worst = max(abs(row["error %"]) for row in rows)
    return f"{'met' if worst <= 100 * TARGET else 'missed'}, the largest is {worst:.1f} %"


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    cases = [(name, batch) for name in options.models for batch in options.batches]
    rows = [
        measure(options, name, batch)
        for name, batch in track(cases, total=len(cases), label="selections")
    ]
    print_table(rows)
    print(f"target: an error within {TARGET:.0%}: {verdict(rows)}")
    clock = Clock(torch.nn.Identity(), (), 1, resolve_device(options.device))
    results = {
        "budget": options.budget,
        "size": options.size,
        "device": clock.circumstances()["device"],
        "rows": rows,
        **circumstances(options),
    }
    if options.write:
        write_json(FILE, results)
        write_page()


if __name__ == "__main__":
    main()
