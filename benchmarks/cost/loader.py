"""Training images from a folder of JPEGs, beside torchvision's `ImageFolder` and a bare DataLoader.

Both decode, crop and flip the same files by the same transforms and end in normalised batches on
the CPU. Their epochs alternate in one process; the first of each, in which processes start, does
not count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.shared.command import circumstances, parse, parser, where
from benchmarks.shared.kept import RESULTS, keep_rows, read_json
from benchmarks.shared.tables import markdown_of, print_table, two_digits
from mipp.config import DataConfig
from mipp.data import load_data
from mipp.data.image_set import IMAGENET_MEAN, IMAGENET_STD
from mipp.progress import track
from mipp.vision import torchvision

PAGE, FILE = Path("docs/loading.md"), RESULTS / "loader.json"
SIDE, BATCH, CLASSES = 224, 64, 10
SIDES = (256, 640)  # of the JPEGs, drawn for height and width apart

Epoch = Callable[[], Iterable[Any]]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.loader", __doc__ or "", PAGE)
    options.add_argument("--images", type=int, default=2000, help="JPEGs")
    options.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes")
    options.add_argument("--repetitions", type=int, default=3, help="epochs that count")
    return parse(options, given)


def write_images(root: Path, count: int) -> None:
    """JPEGs of mixed sizes in the ImageNet layout: smooth noise, a little of it sharp."""
    generator = np.random.default_rng(0)
    for number in track(range(count), total=count, label="JPEGs"):
        width, height = generator.integers(*SIDES, 2).tolist()
        coarse = generator.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        sharp = generator.integers(-20, 21, (height, width, 3), dtype=np.int16)
        pixels = (np.asarray(smooth) + sharp).clip(0, 255).astype(np.uint8)
        for part in ("train", "val") if number < CLASSES else ("train",):
            folder = root / part / f"class{number % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)


def ours(root: Path, workers: int) -> Epoch:
    """Epochs as a stage has them."""
    config = DataConfig(
        name="image-folder", root=str(root), size=SIDE, augment="imagenet-train",
        calibration=1, validation=0, workers=workers,
    )  # fmt: skip
    split = load_data(config, seed=0).train
    generator = torch.Generator().manual_seed(0)
    return lambda: split.batches(BATCH, generator=generator, augment=True)


def bare(root: Path, workers: int) -> Epoch:
    """Epochs of torchvision's own."""
    v2 = torchvision.transforms.v2
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    images = torchvision.datasets.ImageFolder(str(root / "train"), transform)
    loader = DataLoader(
        images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: loader


def measured(epoch: Epoch) -> tuple[float, float, int]:
    """Wall and CPU seconds, of the processes too, and the number of images."""
    cpu, started = _cpu_seconds(), time.perf_counter()
    count = sum(len(images) for images, _ in epoch())
    return time.perf_counter() - started, _cpu_seconds() - cpu, count


def _cpu_seconds() -> float:
    me = psutil.Process()
    times = [one.cpu_times() for one in (me, *me.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))


def compare(root: Path, workers: int, repetitions: int) -> dict[str, Any]:
    """Medians of both, and ratios of what they do in a second."""
    epochs = {"mipp": ours(root, workers), "torchvision": bare(root, workers)}
    runs: dict[str, list[tuple[float, float, int]]] = {name: [] for name in epochs}
    for _ in range(1 + repetitions):
        for name, epoch in epochs.items():
            runs[name].append(measured(epoch))
    row: dict[str, Any] = {"workers": workers}
    for name, (_, *counted) in runs.items():
        wall, cpu = (statistics.median(run[n] / run[2] for run in counted) for n in (0, 1))
        row |= {f"{name}, images/s": 1 / wall, f"{name}, CPU ms an image": 1000 * cpu}
    wall, cpu = "images/s", "CPU ms an image"
    row["ratio of images/s"] = row[f"mipp, {wall}"] / row[f"torchvision, {wall}"]
    row["ratio by CPU seconds"] = row[f"torchvision, {cpu}"] / row[f"mipp, {cpu}"]
    return row


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), options.images)
        table = [compare(Path(folder), n, options.repetitions) for n in options.workers]
    print_table(table)
    results = {"images": options.images, "repetitions": options.repetitions, "table": table}
    results |= circumstances(options)
    if options.write:
        keep_rows(FILE, ("images", "cores"), [results])
        write_page()


def write_page() -> None:
    """The page of the runs that are kept."""
    runs = read_json(FILE)["rows"]
    PAGE.write_text(HEAD + "".join(map(_run, runs)))


HEAD = f"""\
# How fast images are read

Images that are not kept in memory are decoded, cropped and flipped by processes of
`torch.utils.data.DataLoader`, `data.workers` of them. What an image is dealt by chance depends on
seed, epoch and its place alone, so that any number of them gives the same batches, bit for bit.

JPEGs of {SIDES[0]} to {SIDES[1]} pixels, `data.augment=imagenet-train` to {SIDE} pixels, batches of
{BATCH}, beside torchvision's `ImageFolder` in a bare `DataLoader` with `RandomResizedCrop`,
`RandomHorizontalFlip`, `ToDtype` and `Normalize`. Epochs of both alternate in one process; medians.
A ratio above 1 says that mipp is faster.
"""


def _run(run: Mapping[str, Any]) -> str:
    table = "\n".join(markdown_of(run["table"], two_digits))
    return f"""
`{run["command"]}`: {run["images"]:,} images, {run["repetitions"]} epochs. {where(run)}

{table}
"""


if __name__ == "__main__":
    main()
