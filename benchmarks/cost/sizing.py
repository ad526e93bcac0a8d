"""What a search costs by layer: a model of seconds and bytes, checked here, carried to ImageNet.

Three rates are measured on this machine with one layer pair; the model then predicts layers of
other sizes and the search of a whole network, which are measured too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.cost.scaling import BLOCK, measure
from benchmarks.cost.search_steps import Search, repetition
from benchmarks.shared.command import circumstances, parse, parser, where
from benchmarks.shared.kept import RESULTS, read_json, write_json
from benchmarks.shared.tables import markdown_of, print_table, two_digits
from benchmarks.shared.workload import example_of, load_network, random_calibration
from mipp.activations import Sampling
from mipp.graph import build_graph
from mipp.information.gaussian.cost import (
    DROPPED,
    STRIPS,
    WALKS,
    prepare_operations,
    sums_operations,
    walk_operations,
)
from mipp.models import ModelSpec, build_model
from mipp.settings import Mipp

PAGE, FILE = Path("docs/sizing.md"), RESULTS / "sizing.json"
PIPELINE = RESULTS / "pipeline.json"
IMAGENET = 1_281_167
LARGE = (
    ("torchvision/resnet152", 224),
    ("timm/convnext_xlarge", 224),
    ("torchvision/vit_h_14", 224),
)
SHOWN = ("channels", "images", "gpu_float32", "gpu_float64")


@dataclass(frozen=True)
class Layer:
    """One consumer: features that feed a target, targets, positions of its map."""

    features: int
    targets: int
    positions: int
    macs: int


@dataclass(frozen=True)
class Rates:
    """Operations per second of a machine."""

    sums: float  # products in float32
    prepare: float  # factorisation and inverse in float64
    walk: float  # downdates in float64
    forward: float  # of a network, in float32


@dataclass(frozen=True)
class Cost:
    """Seconds of each step and bytes of what is kept."""

    forward: float
    sums: float
    prepare: float
    walk: float
    store: float
    moments: float


def cost_of_layer(layer: Layer, images: int, rows: int, rates: Rates) -> Cost:
    """Predicted cost of one consumer, on one machine of these rates.

    Parameters
    ----------
    rows : asked for; every image gives as many positions as that takes, at most all.
    """
    own = images * Sampling(rows, images, 0).per_image(layer.positions)
    return Cost(
        forward=2.0 * images * layer.macs / rates.forward,
        sums=sums_operations(own, layer.features, layer.targets) / rates.sums,
        prepare=prepare_operations(layer.features, layer.targets) / rates.prepare,
        walk=WALKS * walk_operations(layer.features, layer.targets) / rates.walk,
        store=4.0 * own * (layer.features + layer.targets),
        moments=8.0 * layer.features * (STRIPS * layer.features + layer.targets),
    )


def layers_of(model: nn.Module, example: torch.Tensor) -> list[Layer]:
    """Every conv and linear layer but depthwise ones, in order, from one forward pass."""
    found: list[Layer] = []

    def hook(module: Any, inputs: Any, output: torch.Tensor) -> None:
        if getattr(module, "groups", 1) == module.weight.shape[0]:
            return  # depthwise: it carries a group and reads none
        weight = module.weight
        features = weight[0].numel()  # of a grouped convolution, those of one group
        width = weight.shape[0]
        positions = output[0].numel() // width
        found.append(Layer(features, width, positions, positions * weight.numel()))

    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    with torch.no_grad():
        model.eval()(example)
    for handle in handles:
        handle.remove()
    return found


def measured_rates(channels: int, rows: int) -> Rates:
    """Rates of this machine: of one pair with 3x3 kernels, and of one network's forward pass."""
    found, layer = measure(channels, rows), _of_width(channels)
    return Rates(
        sums=sums_operations(rows, layer.features, layer.targets) / found["sums"],
        prepare=prepare_operations(layer.features, layer.targets) / found["prepare"],
        walk=walk_operations(layer.features, layer.targets) / found["walk"],
        forward=_forward_rate(),
    )


def _of_width(channels: int) -> Layer:
    return Layer(channels * BLOCK, channels, 1, 0)


def _forward_rate(images: int = 64) -> float:
    """Operations per second of ResNet-50 at 224 pixels."""
    model = build_model(ModelSpec("torchvision/resnet50", 1000, 3, 224), seed=0).eval()
    batch = torch.randn(images // 8, 3, 224, 224)
    macs = sum(layer.macs for layer in layers_of(model, batch[:1]))
    with torch.inference_mode():
        model(batch)
        started = time.perf_counter()
        for _ in range(8):
            model(batch)
    return 2.0 * macs * images / (time.perf_counter() - started)


def check_layers(rates: Rates, widths: Sequence[int], rows: int) -> list[dict[str, Any]]:
    """Predicted beside measured seconds of single pairs."""
    table = []
    for channels in widths:
        found, layer = measure(channels, rows), _of_width(channels)
        predicted = {
            "sums": sums_operations(rows, layer.features, layer.targets) / rates.sums,
            "prepare": prepare_operations(layer.features, layer.targets) / rates.prepare,
            "walk": walk_operations(layer.features, layer.targets) / rates.walk,
        }
        row: dict[str, Any] = {"channels": channels, "features": layer.features}
        for step, seconds in predicted.items():
            row |= {f"{step}, predicted s": seconds, f"{step}, measured s": found[step]}
        table.append(row)
    return table


def check_network(rates: Rates, name: str, images: int) -> list[dict[str, Any]]:
    """Predicted beside measured seconds of a whole search."""
    split = random_calibration(images, 32, classes=10)
    model = load_network(None, name, 32)
    example = example_of(split)
    rows = Mipp.rows
    with tempfile.TemporaryDirectory() as folder:
        graph = build_graph(model, example)
        store = Path(folder) / "activations.zarr"
        search = Search(model, graph, split, store, rows, 256, "macs:0.5")
        search.forward()
        measured = repetition(search)
        size = sum(file.stat().st_size for file in _stored(search))
    costs = [cost_of_layer(layer, images, rows, rates) for layer in layers_of(model, example)[1:]]
    total = {name: sum(getattr(cost, name) for cost in costs) for name in Cost.__annotations__}
    forward = measured["forward"].wall
    return [
        {
            "network": name,
            "step": "extract",
            "predicted": f"{forward + total['sums']:.1f} s",
            "measured": f"{measured['extract'].wall:.1f} s",
        },
        {
            "network": name,
            "step": "estimate",
            "predicted": f"{total['prepare']:.1f} s",
            "measured": f"{measured['estimate'].wall:.1f} s",
        },
        {
            "network": name,
            "step": "choose",
            "predicted": f"{total['walk']:.1f} s",
            "measured": f"{measured['choose'].wall:.1f} s",
        },
        {
            "network": name,
            "step": "store",
            "predicted": f"{total['store'] / 1e9:.2f} GB",
            "measured": f"{size / 1e9:.2f} GB",
        },
    ]


def _stored(search: Search) -> list[Path]:
    """Files of the store, written once more: `repetition` removes its own."""
    search.extract()
    return [file for file in search.store.rglob("*") if file.is_file()]


@dataclass(frozen=True)
class Cluster:
    """Workers of equal rates that share the images, then the layer pairs."""

    name: str
    workers: int
    rates: Rates


def extrapolate(name: str, size: int, images: int, rows: int, cluster: Cluster) -> dict[str, Any]:
    """Predicted search of a large network; the choice alone does not fan out."""
    with torch.device("meta"):
        model = build_model(ModelSpec(name, 1000, 3, size), seed=0)
        layers = layers_of(model, torch.zeros(1, 3, size, size))[1:]
    costs = [cost_of_layer(layer, images, rows, cluster.rates) for layer in layers]
    extract = sum(cost.forward + cost.sums for cost in costs) / cluster.workers
    prepare = [cost.prepare for cost in costs]
    estimate = max(sum(prepare) / cluster.workers, max(prepare))
    steps = {"extract": extract, "estimate": estimate, "choose": sum(cost.walk for cost in costs)}
    return {
        "network": name.rpartition("/")[2],
        "images": f"{images:,}",
        "rows": f"{rows:,}",
        "on": cluster.name,
        **{f"{step} s": f"{seconds:,.0f}" for step, seconds in steps.items()},
        "slowest step": max(steps, key=steps.__getitem__),
        "widest pair": f"{max(layer.features for layer in layers):,}",
        "store GB": f"{sum(cost.store for cost in costs) / 1e9:,.0f}",
        "moments GB": f"{sum(cost.moments for cost in costs) / 1e9:,.0f}",
    }


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.sizing", __doc__ or "", PAGE)
    options.add_argument("--channels", type=int, default=256, help="of the pair that gives rates")
    options.add_argument("--widths", type=int, nargs="+", default=[128, 512], help="to check")
    options.add_argument("--network", default="vgg11", help="to check")
    options.add_argument("--images", type=int, default=1024, help="of the network's check")
    options.add_argument("--gpus", type=int, default=64, help="that share the work, assumed")
    options.add_argument("--gpu-float32", type=float, default=40e12, help="assumed, per second")
    options.add_argument("--gpu-float64", type=float, default=20e12, help="assumed, per second")
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    rows = Mipp.rows
    rates = measured_rates(options.channels, rows)
    gpu = Rates(options.gpu_float32, options.gpu_float64, options.gpu_float64, options.gpu_float32)
    here = Cluster(f"{options.threads} cores here", 1, rates)
    many = Cluster(f"{options.gpus} GPUs, assumed", options.gpus, gpu)
    tables = {
        "rates": [
            {"rate": name, "billion operations per second": f"{value / 1e9:.0f}"}
            for name, value in vars(rates).items()
        ],
        "layers": check_layers(rates, options.widths, rows),
        "network": check_network(rates, options.network, options.images),
        "large": [
            extrapolate(name, size, images, asked, cluster)
            for name, size in LARGE
            for images, asked, cluster in (
                (2048, rows, here),
                (2048, rows, many),
                (IMAGENET, IMAGENET, many),
            )
        ],
    }
    for table in tables.values():
        print_table(table)
        print()
    shown = {name: vars(options)[name] for name in SHOWN}
    results = {"options": {**shown, "rows": rows}, "tables": tables, **circumstances(options)}
    if options.write:
        write_json(FILE, results)
        write_page()


def write_page() -> None:
    """The page of the run that is kept."""
    text = page(read_json(FILE))
    PAGE.write_text(text + _pipeline(read_json(PIPELINE)["rows"]) if PIPELINE.exists() else text)


def page(results: Mapping[str, Any]) -> str:
    """docs/sizing.md."""
    tables, options = results["tables"], results["options"]
    single, double = options["gpu_float32"], options["gpu_float64"]
    load = ", ".join(map(str, results["load_average"]))
    return f"""\
# What a search costs, and where

Written by `{results["command"]}` on {results["cores"]} cores (load average {load};
where that is above the cores, other programs took their share and times vary by a factor of two).

## The model

A consumer has d features (input channels of its group x kernel size), m targets and n rows. With
`extract.rows` rows asked for, every image gives the positions that this takes, at most all of its
map, so that n is about the number asked for.

| step | operations | memory and disk | fans out over |
| --- | --- | --- | --- |
| forward pass | 2 x MACs x images | | images |
| sums | 2 n d (9/16 d + m), float32 | store 4 n (d + m), moments 8 d (9/16 d + m) bytes | images |
| estimate | d^3 + 2 d^2 m, float64 | 16 d^2 bytes | pairs |
| choose | walks x d D (D + 2 m), float64, D features dropped | 8 d (d + D) bytes a pair | nothing |

{WALKS} walks and D = {DROPPED:g} d are assumed; those after the first take about half of what is
told, since they recall what the first one dropped. Only the sums depend on rows. Forward pass and
sums are the stage `extract`; the sums of shards of the images add up. The choice goes from the top
down, each group after the ones that it feeds.

## Rates of this machine

From one pair of {options["channels"]} channels with 3x3 kernels, and from ResNet-50's forward pass.

{_markdown(tables["rates"])}

## The model beside measured runs

Single pairs, {options["rows"]:,} rows:

{_markdown(tables["layers"])}

A whole search, {options["images"]:,} images of 32 pixels; extract's prediction starts from the
measured forward pass and leaves out writing the store:

{_markdown(tables["network"])}

## Carried to large networks

224 pixels, random weights; nothing here was run. The GPUs' rates are assumed:
{single / 1e12:g} and {double / 1e12:g} million million operations per
second in float32 and float64. A row per image for all of ImageNet is far more than the estimates
need: information settles with some thousand rows (see [confidence.md](confidence.md)), so that the
store is the cost to avoid, and `data.calibration` the way to.

{_markdown(tables["large"])}
"""


def _pipeline(runs: Sequence[Mapping[str, Any]]) -> str:
    """The section of what `benchmarks.cost.pipeline` keeps."""
    head = """
## The pipeline at real size

JPEGs of 224 pixels from a folder. Each stage runs in a process of its own; a *way* is the whole of
it, in a work directory of its own. Evaluation is the same work in each, by one process: where its
seconds differ, the machine did something else beside.
"""
    return head + "".join(map(_pipeline_run, runs))


def _pipeline_run(run: Mapping[str, Any]) -> str:
    store = run["store"]
    ways = f"\n{_markdown(run['ways'])}\n" if run["ways"] else ""
    return f"""
`{run["command"]}`: {run["network"]}, {run["images"]:,} images, {run["calibration"]:,} of them for
calibration, fine-tuning of {run["epochs"]} epochs. {where(run)}

{_markdown(run["stages"])}

The store takes {store["bytes"] / 1e9:.2f} GB, foretold {store["foretold"] / 1e9:.2f} GB.
{ways}"""


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(markdown_of(rows, two_digits))


if __name__ == "__main__":
    main()
