"""benchmarks/RESULTS.md: what `benchmarks.cost.gpu` measured, where, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.command import listed
from benchmarks.shared.kept import RESULTS, read_json
from benchmarks.shared.tables import brief, markdown_of

PAGE, FILE = Path("benchmarks/RESULTS.md"), RESULTS / "gpu.json"
HEAD = """\
# Cost of a search on a GPU

Written by `{command}`.

{where}

Versions: {versions}. Threads: {threads}, on {cores} cores; load average {load}.

{images} images of {size} pixels, {batch_size} per forward pass; `extract.rows` {rows}, \
`choose.budget` `{budget}`; medians over repetitions of everything, interleaved: {repetitions}. \
Weights and images are random. What a forward pass, extract, estimate and Taylor cost does not \
depend on that; choose may walk the network more or less often when it is trained.

*search* is extract, estimate and choose; *taylor* is Torch-Pruning's Taylor criterion on the same \
images, its backward passes and its scores. Tracing the network is in neither. Estimate and choose \
cost what the rows cost, not the images: the more images, the fewer forward passes they are worth.

{memory}
"""
NO_GPU = """\
**No GPU was at hand: nothing here was measured on one.** The numbers below are what the same \
script gives on the CPU; they say nothing about a GPU's time or memory."""
GPU = "Card: {name}, CUDA {cuda}."
ALLOCATOR = """\
Peaks are of CUDA's allocator: weights, activations and everything a step makes, without the \
CUDA context; Taylor's are with a second copy of the weights, which its trace makes."""
RESIDENT = "Peaks are of the whole process's resident memory, Python and torch included."
NETWORKS = {
    "dense": "dense",
    "recalibrated": "pruned, recalibrated",
    "refit": "pruned, refit",
    "finetuned": "pruned, fine-tuned",
}


def write_page() -> None:
    """The page of the run that is kept."""
    PAGE.write_text(page(read_json(FILE)))


def page(results: Mapping[str, Any]) -> str:
    """The page of one run, as Markdown."""
    options, device = results["options"], results["device"]
    gpu = device["type"] == "cuda"
    head = HEAD.format(
        **{
            key: f"{value:,}" if isinstance(value, int) else value for key, value in options.items()
        },
        command=results["command"],
        where=(GPU if gpu else NO_GPU).format(**device),
        versions=listed(results["versions"]),
        threads=results["threads"],
        cores=results["cores"],
        load=" ".join(map(str, results["load_average"])),
        memory=ALLOCATOR if gpu else RESIDENT,
    )
    parts = [head, *(_network(measured, options) for measured in results["networks"])]
    return "\n".join([*parts, _end_to_end(results["end to end"], gpu=gpu)])


def _network(measured: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    lines = [f"## {measured['model']}", "", _table(measured["steps"])]
    if measured["equal"] is not None:
        lines += [
            f"With {options['compared']} images the GPU and the CPU agree about "
            f"{measured['equal']:.2%} of the units.",
            "",
        ]
    return "\n".join(lines)


def _end_to_end(metrics: Mapping[str, Any] | None, *, gpu: bool) -> str:
    title = "## ResNet-18 on CIFAR-10, end to end\n\n"
    if metrics is None:
        why = "the images were not found, or not asked for" if gpu else "it takes a GPU"
        return f"{title}Not run: {why}.\n"
    rows = [
        {"network": text, "accuracy %": 100 * metrics[f"accuracy_{name}"]}
        for name, text in NETWORKS.items()
    ]
    return (
        f"{title}{metrics['epochs']} epochs of training, half of them to fine-tune; "
        f"{metrics['test_images']:,} test images; {metrics['macs'] / metrics['macs_dense']:.1%} "
        f"of the multiply-accumulates stay, {metrics['params'] / metrics['params_dense']:.1%} of "
        f"the parameters. Training took {metrics['seconds_train']:.0f} s, the search "
        f"{metrics['seconds_search']:.1f} s, fine-tuning {metrics['seconds_finetune']:.0f} s.\n\n"
        f"{_table(rows)}"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(markdown_of(rows, brief)) + "\n"
