"""The pipeline on JPEGs at 224 pixels: seconds and memory by stage, and the flow on a cluster.

Every stage runs in a process of its own, so that the peak of its memory is its own; then the whole
once as one process and once as a flow, each in a work directory of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.cost.sizing import PAGE, PIPELINE, write_page
from benchmarks.shared.command import circumstances, parse, parser
from benchmarks.shared.kept import keep_rows
from benchmarks.shared.tables import print_table
from mipp.activations import Sampling
from mipp.graph import build_graph
from mipp.models import ModelSpec, build_model
from mipp.progress import track
from mipp.pruning.needs import sizes_of, stored_bytes
from mipp.settings import Mipp
from mipp.stages import STAGES

SIZE, CLASSES = 224, 10
TEST_SHARE = 5  # one image in so many is for the test
WAYS = {
    "one process": (("mipp", "run"), ()),
    "flow, 2 threads": (("flows.pipeline",), ("compute.runner=threads", "compute.workers=2")),
    "flow, Ray, 2 workers": (("flows.pipeline",), ("compute.runner=ray", "compute.workers=2")),
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.pipeline", __doc__ or "", PAGE)
    options.add_argument("--network", default="torchvision/resnet50", help="any that mipp names")
    options.add_argument("--images", type=int, default=2000, help="JPEGs, the test's among them")
    options.add_argument("--calibration", type=int, default=1024, help="images of these")
    options.add_argument("--epochs", type=int, default=1, help="of fine-tuning")
    options.add_argument(
        "--ways", nargs="*", choices=list(WAYS), default=["one process"], help="of the whole"
    )
    return parse(options, given)


def write_images(root: Path, count: int) -> None:
    """A folder of JPEGs in the ImageNet layout: smooth noise, of a mean colour by class."""
    generator = np.random.default_rng(0)
    colours = generator.uniform(60, 190, (CLASSES, 3))
    for number in track(range(count), total=count, label="JPEGs"):
        label = number % CLASSES
        part = "test" if number // CLASSES % TEST_SHARE == 0 else "train"
        folder = root / part / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = colours[label] + generator.normal(0, 40, (14, 14, 3))
        image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
        image.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")


def settings(options: argparse.Namespace, root: Path) -> tuple[str, ...]:
    """Of the run: a network as it comes, pruned and trained for a little."""
    return (
        "data.name=image-folder",
        f"data.root={root}",
        f"data.calibration={options.calibration}",
        f"model.name={options.network}",
        "train.epochs=0",
        f"finetune.epochs={options.epochs}",
        "tracking.uri=null",
    )


def run(module: Sequence[str], workdir: Path, sets: Sequence[str]) -> float:
    """Seconds of a whole process."""
    words = [word for one in sets for word in ("--set", one)]
    started = time.perf_counter()
    command = [sys.executable, "-m", *module, "--workdir", str(workdir), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def by_stage(workdir: Path, sets: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every stage in a process of its own."""
    for stage in track(STAGES, total=len(STAGES), label="stages"):
        run(("mipp", stage), workdir, sets)
        timing = timing_of(workdir, stage)
        yield {
            "stage": stage,
            "seconds": timing["seconds"],
            "peak MiB": timing["peak_rss_mb"],
            "MB on disk": bytes_of(workdir / stage) / 1e6,
        }


def timing_of(workdir: Path, stage: str) -> dict[str, Any]:
    """What a stage took."""
    found: dict[str, Any] = json.loads((workdir / stage / "timing.json").read_text())
    return found


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def foretold(network: str, images: int) -> int:
    """Bytes of the store, by the model of docs/sizing.md, as `mipp doctor` says them."""
    model = build_model(ModelSpec(network, CLASSES, 3, SIZE), seed=0)
    graph = build_graph(model, torch.zeros(1, 3, SIZE, SIZE))
    return stored_bytes(sizes_of(model, graph, Sampling(Mipp.rows, images, 0)))


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    with tempfile.TemporaryDirectory() as folder:
        root, top = Path(folder) / "images", Path(folder)
        write_images(root, options.images)
        sets = settings(options, root)
        stages = list(by_stage(top / "stages", sets))
        print_table(stages)
        store = bytes_of(top / "stages" / "extract" / "activations.zarr")
        ways = []
        for name in options.ways:
            module, more = WAYS[name]
            workdir = top / f"way{len(ways)}"
            seconds = run(module, workdir, (*sets, *more))
            evaluation = timing_of(workdir, "evaluate")["seconds"]
            ways.append({"way": name, "seconds": seconds, "of evaluation": evaluation})
    if ways:
        print_table(ways)
    told = foretold(options.network, options.calibration)
    print(f"store: {store / 1e9:.2f} GB, foretold {told / 1e9:.2f} GB")
    results = {
        "network": options.network,
        "images": options.images,
        "calibration": options.calibration,
        "epochs": options.epochs,
        "stages": stages,
        "ways": ways,
        "store": {"bytes": store, "foretold": told},
        **circumstances(options),
    }
    if options.write:
        keep_rows(PIPELINE, ("network", "images"), [results])
        write_page()


if __name__ == "__main__":
    main()
