"""A search's time and memory on a GPU, beside a bare forward pass and a Taylor pass, in one run.

Weights and images are random, which suffices for time and memory.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cost.gpu_page import FILE, PAGE, write_page
from benchmarks.cost.search_steps import CPU, Cost, Search, repetition
from benchmarks.shared.command import add_data_root, circumstances, parse, parser
from benchmarks.shared.kept import write_json
from benchmarks.shared.tables import print_table
from benchmarks.shared.workload import IMAGES, example_of, random_calibration
from mipp.config import Params, parse_params
from mipp.device import describe_device, resolve_device
from mipp.disk.storage import Workdir
from mipp.errors import DataError
from mipp.graph import build_graph
from mipp.models import ModelSpec, build_model
from mipp.progress import track
from mipp.selection.by_information import Choice
from mipp.settings import Mipp
from mipp.stages import run_all
from mipp.stages.files import read_json
from mipp.stages.splits import load_splits

MODELS = ("torchvision/resnet50", "torchvision/vit_b_16")
CLASSES = 1000
NETWORKS = ("dense", "recalibrated", "refit", "finetuned")
SHOWN = ("images", "size", "batch_size", "rows", "budget", "repetitions", "compared")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.gpu", __doc__ or "", PAGE)
    add_data_root(options)
    options.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options.add_argument("--models", nargs="+", default=list(MODELS), help="that mipp names")
    options.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    options.add_argument("--images", type=int, default=1024, help="calibration images")
    options.add_argument("--batch-size", type=int, default=64, help="images per forward pass")
    options.add_argument("--rows", type=int, default=Mipp.rows, help="extract.rows")
    options.add_argument("--budget", default="macs:0.5", help="choose.budget")
    options.add_argument("--repetitions", type=int, default=3, help="of everything, interleaved")
    options.add_argument(
        "--compared", type=int, default=128, help="images that the CPU chooses with too; 0: none"
    )
    options.add_argument(
        "--end-to-end",
        choices=("auto", "always", "never"),
        default="auto",
        help="ResNet-18 on CIFAR-10: auto on a GPU, where the images are found",
    )
    options.add_argument("--epochs", type=int, default=10, help="of ResNet-18; half to fine-tune")
    return parse(options, given)


def measure(options: argparse.Namespace, name: str, device: torch.device) -> dict[str, Any]:
    """Every step of one network, and on a GPU how far its choice is the CPU's."""
    with tempfile.TemporaryDirectory() as folder:
        search = prepared(options, name, device, Path(folder))
        search.forward()  # warms up
        repetitions = track(range(options.repetitions), total=options.repetitions, label=name)
        runs = [repetition(search) for _ in repetitions]
        measured = {"model": name, "steps": medians(runs), "equal": None}
        if device.type == "cuda" and options.compared:
            there = prepared(options, name, device, Path(folder), options.compared).choice()
            here = prepared(options, name, CPU, Path(folder), options.compared).choice()
            measured["equal"] = equal_verdicts(here, there)
    return measured


def prepared(
    options: argparse.Namespace,
    name: str,
    device: torch.device,
    folder: Path,
    images: int | None = None,
) -> Search:
    """A network with its images, the same on every device."""
    split = random_calibration(images or options.images, options.size, classes=CLASSES)
    spec = ModelSpec(name, CLASSES, channels=3, size=options.size)
    model = build_model(spec, seed=0).eval().to(device)
    return Search(
        model,
        build_graph(model, example_of(split).to(device)),
        split,
        folder / "activations.zarr",
        options.rows,
        options.batch_size,
        options.budget,
        device,
    )


def medians(runs: Sequence[dict[str, Cost]]) -> list[dict[str, Any]]:
    """A row per step: medians over repetitions; every ratio is taken inside one of them."""

    def times(step: str, reference: str) -> float:
        return float(np.median([run[step].wall / run[reference].wall for run in runs]))

    return [
        {
            "step": step,
            "seconds": float(np.median([run[step].wall for run in runs])),
            "peak MiB": float(np.median([run[step].peak for run in runs])),
            "forward passes": times(step, "forward"),
            "Taylor passes": times(step, "taylor"),
        }
        for step in runs[0]
    ]


def equal_verdicts(one: Choice, other: Choice) -> float:
    """Share of the units about which two choices agree."""
    kept = [{(n["group"], n["channel"]): n["kept"] for n in c.units()} for c in (one, other)]
    assert kept[0].keys() == kept[1].keys()
    return float(np.mean([stays == kept[1][unit] for unit, stays in kept[0].items()]))


def end_to_end(options: argparse.Namespace, device: str) -> dict[str, Any] | None:
    """ResNet-18 on CIFAR-10 through all stages; None where it is not wanted or has no images.

    Raises
    ------
    DataError : it is always wanted and the images are not there.
    """
    wanted = options.end_to_end
    if wanted == "never" or (wanted == "auto" and resolve_device(device).type != "cuda"):
        return None
    params = pipeline(options, device)
    try:
        load_splits(params)
    except DataError as error:
        if wanted == "always":
            raise
        print(f"note: not end to end, because {str(error).splitlines()[0]}")
        return None
    with tempfile.TemporaryDirectory() as folder:
        run_all(Workdir(Path(folder)), params)
        metrics = read_json(Path(folder) / "evaluate/metrics.json")
    return {"epochs": options.epochs, **metrics}


def pipeline(options: argparse.Namespace, device: str) -> Params:
    """What the pipeline is told for ResNet-18."""
    root = str(Path(options.data_root) / IMAGES) if options.data_root else None
    return parse_params(
        {
            "data": {"name": "parquet", "root": root, "augment": "crop-flip"},
            "model": {"name": "resnet18"},
            "train": {"epochs": options.epochs, "batch_size": 128},
            "finetune": {"epochs": options.epochs // 2, "batch_size": 128},
            "choose": {"budget": options.budget},
            "evaluate": {"export": ()},
            "compute": {"device": device},
        }
    )


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    networks = []
    for name in options.models:
        networks.append(measure(options, name, device))
        print(f"{name}, {options.images} images on {describe_device(device)}")
        print_table(networks[-1]["steps"])
        if networks[-1]["equal"] is not None:
            print(f"verdicts equal to the CPU's: {networks[-1]['equal']:.2%}")
        print()
    results = {
        "device": {
            "type": device.type,
            "name": describe_device(device),
            "cuda": torch.version.cuda,
        },
        "options": {name: vars(options)[name] for name in SHOWN},
        "networks": networks,
        "end to end": end_to_end(options, options.device),
    }
    if results["end to end"]:
        metrics = results["end to end"]
        print_table([{"network": n, "accuracy": metrics[f"accuracy_{n}"]} for n in NETWORKS])
    results |= circumstances(options)
    if options.write:
        write_json(FILE, results)
        write_page()


if __name__ == "__main__":
    main()
