"""Cost of a search: extract, estimate and choose beside a bare forward pass and a Taylor pass."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.cost.search_page import PAGE, measured_path, verdict, write_page
from benchmarks.cost.search_steps import Cost, Search, repetition
from benchmarks.shared.command import add_data_root, circumstances, parse, parser
from benchmarks.shared.kept import write_json
from benchmarks.shared.tables import print_table
from benchmarks.shared.workload import (
    example_of,
    find_checkpoint,
    load_calibration,
    load_network,
)
from mipp.graph import build_graph
from mipp.process.allocator import keep_freed_memory
from mipp.progress import track
from mipp.settings import Mipp

Times = npt.NDArray[np.float64]  # of the wall and of the CPU


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.search", __doc__ or "", PAGE)
    add_data_root(options)
    options.add_argument("--model", default="resnet20", help="any network that mipp names")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--batch-size", type=int, default=256, help="images per forward pass")
    options.add_argument("--rows", type=int, default=Mipp.rows, help="extract.rows")
    options.add_argument("--budget", default="macs:0.5", help="choose.budget")
    options.add_argument("--repetitions", type=int, default=3, help="of everything, interleaved")
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the stages do; the rival's pass gains too
    split = load_calibration(options.data_root, options.model, options.images)
    model = load_network(options.data_root, options.model, split.preparation.size)
    graph = build_graph(model, example_of(split))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "activations.zarr"
        search = Search(
            model, graph, split, store, options.rows, options.batch_size, options.budget
        )
        search.forward()  # decodes the images and warms up
        repetitions = track(range(options.repetitions), total=options.repetitions, label="search")
        runs = [repetition(search) for _ in repetitions]
    results = {**report(runs, options), **circumstances(options)}
    if options.write:
        write_json(measured_path(options.model), results)
        write_page()


def report(runs: list[dict[str, Cost]], options: argparse.Namespace) -> dict[str, Any]:
    """Medians over repetitions, printed too; every ratio is taken inside one of them."""

    def times(run: dict[str, Cost], step: str) -> Times:
        return np.array([run[step].wall, run[step].cpu])

    def ratio(step: str, reference: str) -> Times:
        return np.median([times(run, step) / times(run, reference) for run in runs], axis=0)

    rows = []
    for step in runs[0]:
        wall, cpu = map(float, np.median([times(run, step) for run in runs], axis=0))
        passes = float(ratio(step, "forward")[0])
        rows.append({"step": step, "seconds": wall, "CPU seconds": cpu, "forward passes": passes})
    print(f"{options.model}, {options.images} images: medians of {len(runs)} repetitions")
    print_table(rows)
    forwards, rivals = ratio("search", "forward"), ratio("search", "taylor")
    print(
        f"search: {verdict(options.model, forwards[0], rivals[0])}; "
        f"CPU time {forwards[1]:.2f} and {rivals[1]:.2f}"
    )
    trained = find_checkpoint(options.data_root, options.model) is not None
    return {
        "model": options.model,
        "images": options.images,
        "weights": "trained weights" if trained else "random weights",
        "steps": rows,
        "runs": [{step: astuple(cost) for step, cost in run.items()} for run in runs],
        "search_over_forward": forwards.tolist(),
        "search_over_taylor": rivals.tolist(),
    }


if __name__ == "__main__":
    main()
