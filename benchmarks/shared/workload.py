"""What every benchmark shares: arguments, a network, images, and how results are printed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mipp.config import DataConfig
from mipp.data import DataSplits, ImageSplit, load_data
from mipp.data.image_set import default_normalisation, part_in_memory
from mipp.data.locate import places
from mipp.data.split import Preparation
from mipp.errors import DataError
from mipp.models import ModelSpec, build_model, load_weights, preferred_input

IMAGES = "cifar10-jpeg"
CHECKPOINTS = {"resnet20": "checkpoints/resnet20-cifar10-jpeg.pt"}
PACKAGES = ("torch", "torchvision", "numpy", "zarr", "torch-pruning", "mipp-pruning")
MIB = 2**20

Rows = Sequence[Mapping[str, Any]]


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Command line with the options that all benchmarks take."""
    options = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument(
        "--data-root",
        help=f"folder that holds {IMAGES}/ and checkpoints/ (without it $MIPP_DATA, "
        "then ../shared/data)",
    )
    options.add_argument("--threads", type=int, default=2, help="threads of torch")
    options.add_argument("--out", type=Path, help="JSON file to write")
    return options


def load_splits(root: str | None, model: str, images: int, seed: int) -> DataSplits:
    """CIFAR-10-JPEG in the shape that the model wants, with `images` for calibration.

    Raises
    ------
    DataError : the set is not there, or has fewer images.
    """
    channels, size = preferred_input(model)
    folder = str(Path(root) / IMAGES) if root else None
    config = DataConfig(name="parquet", root=folder, calibration=images)
    return load_data(config, seed=seed, channels=channels, size=size)


def load_calibration(root: str | None, model: str, images: int, seed: int = 0) -> ImageSplit:
    """Calibration images; random ones, with a note on stderr, where the set is missing."""
    try:
        return load_splits(root, model, images, seed).calibration
    except DataError as error:
        print(f"note: random images, because {str(error).splitlines()[0]}", file=sys.stderr)
    return random_calibration(images, preferred_input(model)[1] or 32, classes=10, seed=seed)


def random_calibration(images: int, size: int, *, classes: int, seed: int = 0) -> ImageSplit:
    """Random colour images with random labels, in memory."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (images, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(classes, (images,), generator=generator)
    preparation = Preparation(3, size, *default_normalisation(3))
    return ImageSplit(part_in_memory("random", pixels, labels), torch.arange(images), preparation)


def load_network(root: str | None, name: str, size: int, seed: int = 0) -> nn.Module:
    """Network in eval mode, with the weights of its checkpoint where there is one."""
    model = build_model(ModelSpec(name, classes=10, channels=3, size=size), seed=seed).eval()
    weights = find_checkpoint(root, name)
    if weights is None:
        print(f"note: random weights, no checkpoint of {name} was found", file=sys.stderr)
    else:
        load_weights(model, weights)
    return model


def find_checkpoint(root: str | None, name: str) -> Path | None:
    """Checkpoint of a network under the data root, None where there is none."""
    files = (place / CHECKPOINTS[name] for place in places(root) if name in CHECKPOINTS)
    return next((file for file in files if file.is_file()), None)


def measured_apart(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a benchmark measures in a process of its own, and prints there as JSON.

    Parameters
    ----------
    options : of its command line, with one value or a tuple of values; None leaves one out.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    for option, value in options.items():
        if value is not None:
            values = value if isinstance(value, tuple) else (value,)
            command += [option, *map(str, values)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def example_of(split: ImageSplit) -> Tensor:
    """One blank input of the shape that the split gives."""
    kind = split.preparation
    return torch.zeros(1, kind.channels, kind.size, kind.size)


def print_table(rows: Rows) -> None:
    """Columns as wide as their content; the first to the left, the others to the right."""
    texts = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for first, *others in texts:
        cells = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def finish(name: str, results: Mapping[str, Any], out: Path | None) -> Mapping[str, Any]:
    """Print the circumstances of a measurement, write both where asked to, and return them."""
    circumstances: dict[str, Any] = {
        "command": " ".join(["python -m", f"benchmarks.{name}", *sys.argv[1:]]),
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in PACKAGES},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
    print()
    print(circumstances["command"])
    print(", ".join(f"{k} {v}" for k, v in circumstances["versions"].items()))
    print(
        f"{circumstances['threads']} threads on {circumstances['cores']} cores, load average "
        + " ".join(map(str, circumstances["load_average"]))
    )
    if out is not None:
        out.write_text(json.dumps({**results, **circumstances}, indent=1))
    return circumstances
