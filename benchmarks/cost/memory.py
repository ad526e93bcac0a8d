"""Peak memory of extraction, which must not grow with the number of images."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.command import (
    add_data_root,
    circumstances,
    measured_apart,
    parse,
    parser,
)
from benchmarks.shared.kept import RESULTS, write_json
from benchmarks.shared.tables import print_table
from benchmarks.shared.workload import MIB, example_of, load_calibration, load_network
from mipp.activations import Sampling, capture_rows, write_store
from mipp.graph import build_graph
from mipp.process.peak_memory import peak_rss_mb
from mipp.progress import track
from mipp.settings import Mipp
from mipp.stages.splits import images_of

TARGET = 0.10  # growth of the peak from the fewer to the more images
PER_IMAGE = 4  # rows of the second measurement
CPU = torch.device("cpu")
FILE = RESULTS / "memory.json"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.memory", __doc__ or "")
    add_data_root(options)
    options.add_argument("--model", default="resnet20", help="any network that mipp names")
    options.add_argument(
        "--images", type=int, nargs="+", default=[1024, 8192], help="numbers to compare"
    )
    options.add_argument("--rows", type=int, default=Mipp.rows, help="extract.rows")
    options.add_argument("--batch-size", type=int, default=256, help="images per forward pass")
    options.add_argument(
        "--alone",
        action="store_true",
        help="measure one extraction (the first of --images) in this process and print JSON",
    )
    return parse(options, given)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Extract once, as the stage does, and read this process's peak."""
    images = options.images[0]
    split = load_calibration(options.data_root, options.model, images)
    model = load_network(options.data_root, options.model, split.preparation.size)
    graph = build_graph(model, example_of(split))
    start = peak_rss_mb()
    sampling = Sampling(options.rows, images, seed=0)
    batches = images_of(split, options.batch_size, CPU)
    with tempfile.TemporaryDirectory() as folder:
        rows = capture_rows(model, graph.pairs, batches, sampling)
        write_store(Path(folder) / "activations.zarr", rows, {})
        stored = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    kind = split.preparation
    return {
        "images": images,
        "rows": options.rows,
        "peak MiB": peak_rss_mb(),
        "before MiB": start,
        "pixels MiB": images * kind.channels * kind.size**2 / MIB,  # kept by the split as uint8
        "store MiB": stored / MIB,
    }


def measure_alone(options: argparse.Namespace, images: int, rows: int) -> dict[str, Any]:
    """`measure` in a fresh process."""
    values = {
        "--alone": (),
        "--model": options.model,
        "--images": images,
        "--rows": rows,
        "--threads": options.threads,
        "--batch-size": options.batch_size,
        "--data-root": options.data_root,
    }
    return {"measurement": "", **measured_apart("cost.memory", values)}


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    if options.alone:
        print(json.dumps(measure(options)))
        return
    policies = {
        f"{options.rows} rows in all": lambda images: options.rows,
        f"{PER_IMAGE} rows per image": lambda images: PER_IMAGE * images,
    }
    table, growth = [], {}
    for policy, rows in policies.items():
        numbers = track(options.images, total=len(options.images), label=policy)
        runs = [measure_alone(options, images, rows(images)) for images in numbers]
        table += [{**run, "measurement": policy} for run in runs]
        growth[policy] = _growth(runs[0], runs[-1])
    print_table(table)
    for policy, shares in growth.items():
        verdict = "met" if abs(shares["peak"]) < TARGET else "missed"
        print(
            f"{policy}: peak changes by {shares['peak']:+.1%} from {options.images[0]} to "
            f"{options.images[-1]} images (target below {TARGET:.0%}: {verdict}); the pixels that "
            f"the image split keeps make {shares['pixels']:+.1%} of it, the rest "
            f"{shares['peak'] - shares['pixels']:+.1%}"
        )
    results = {"model": options.model, "runs": table, "growth": growth, **circumstances(options)}
    if options.write:
        write_json(FILE, results)


def _growth(few: dict[str, Any], many: dict[str, Any]) -> dict[str, float]:
    """Differences as shares of the peak at few images."""
    return {
        "peak": many["peak MiB"] / few["peak MiB"] - 1,
        "pixels": (many["pixels MiB"] - few["pixels MiB"]) / few["peak MiB"],
    }


if __name__ == "__main__":
    main()
