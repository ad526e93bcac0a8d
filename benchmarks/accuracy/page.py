"""docs/accuracy.md: the tables of the accuracy benchmark, and how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.methods import DISTILL, NAMES
from benchmarks.accuracy.results import (
    FILE,
    MACHINE,
    points_in,
    settings_of,
    table,
    under,
    verdicts,
)
from benchmarks.accuracy.workloads import WORKLOADS, Workload
from benchmarks.shared.kept import Point
from benchmarks.shared.tables import markdown
from mipp.config import FinetuneConfig

PAGE = Path("docs/accuracy.md")
NOTES = """\
Percent of the test images, mean ± standard deviation over the seeds; every seed draws its own \
calibration images. *raw*: after surgery; *recalibrated*: batch-norm statistics from the \
calibration images; *refit*: least squares of the layers that follow, at the filters' former \
length where batch-norm follows, which is rebased so that training computes the same; then \
*recal.*, also recalibrated; *fine-tuned*: after training, everyone from the recalibrated network \
but for *refit start*, which starts from the refitted one. *units %*: outputs of all layers but \
the classifier that stay, a residual stream's counted in each layer that writes it. *search s*: \
seconds of gradients, trace, scores and surgery, without the bisection of Torch-Pruning's ratio, \
on machines that were not always quiet. Below a table the best of both sides and their difference \
with its standard error, of the differences on the same seeds; that each is the best of many means \
is not in it.

`l1`, `taylor` and `random` are this project's own rival criteria, under the same selection, \
surgery and refit. Torch-Pruning's ratio is bisected until its network costs the same, and every \
layer keeps a unit. Its Hessian importance is given the mean squared gradient over all calibration \
images: its own accumulation keeps the last image alone. Ranked per layer, LAMP keeps the order \
of L2.

Fine-tuning is the same for all: SGD with momentum {momentum:g}, weight decay {weight_decay:g}, a \
one-cycle learning rate up to {lr:g}, batches of 128, the same order and the same augmentation. \
*taught*: half of the loss goes by the dense network's answers (`finetune.distill={distill:g}`).

The refit of these tables is that of version 0.1.0, which solves eight times; but for `mipp` of
ResNet-20 under `macs:0.5`, where it solves four times with longer steps. Version 0.2.0.dev0 solves
three times, in the precision of the rows, and in large networks with no more rows than 64 for each
feature; not measured of the others yet."""


def write_page() -> None:
    """Write the page from all points that are kept."""
    points = points_in(FILE).all()
    config = FinetuneConfig()
    notes = NOTES.format(
        momentum=config.momentum, weight_decay=config.weight_decay, lr=config.lr, distill=DISTILL
    )
    page = ["# Accuracy at equal budgets", "", *_origin(points), "", notes, ""]
    for settings in settings_of(points):
        page += _section(under(points, settings), NAMES)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(page))


def _origin(points: Sequence[Point]) -> list[str]:
    machines = dict.fromkeys(tuple(p[name] for name in MACHINE) for p in points)
    return [
        f"Written by `python -m benchmarks.accuracy --write` from `{FILE}`.",
        *(f"Measured with {v}; threads: {t}, cores: {c}." for t, c, v in machines),
    ]


def _section(points: Sequence[Point], names: Sequence[str]) -> list[str]:
    first = points[0]
    workload = WORKLOADS[first["workload"]]
    after = f"{first['epochs']} epochs of fine-tuning" if first["epochs"] else "no training"
    after += "" if first["precision"] == "float32" else f" in {first['precision']}"
    rows = table(points, names)
    filled = [title for title in rows[0] if any(row[title] is not None for row in rows)]
    return [
        f"## {first['workload']}, `{first['budget']}`, {after}",
        "",
        f"`{_command(points)}`",
        "",
        f"Images: {first['images']:,} for calibration, {first['train_images']:,} for fine-tuning, "
        f"{first['test_images']:,} for the test; augmentation: {workload.augment}. "
        + _told(workload, first["dense_images"]),
        "",
        *markdown(filled, ([row[title] for title in filled] for row in rows)),
        "",
        *(f"- {verdict}" for verdict in verdicts(points)),
        "",
    ]


def _command(points: Sequence[Point]) -> str:
    first = points[0]
    seeds = " ".join(map(str, sorted({p["seed"] for p in points})))
    return (
        f"python -m benchmarks.accuracy --write --workload {first['workload']} --budgets "
        f"{first['budget']} --seeds {seeds} --epochs {first['epochs']} --images {first['images']} "
        f"--train-images {first['train_images']} --test-images {first['test_images']}"
        + (f" --dense-images {first['dense_images']}" if first["dense_images"] else "")
        + ("" if first["precision"] == "float32" else f" --precision {first['precision']}")
    )


def _told(workload: Workload, images: int) -> str:
    """Where the dense network is from, and what Torch-Pruning may prune of it."""
    config = workload.training
    dense = (
        "The dense network is a checkpoint."
        if config is None
        else f"The dense network was trained for {config.epochs} epochs on {images:,} images, "
        f"batches of {config.batch_size}, one-cycle learning rate up to {config.lr:g}, seed 0."
    )
    layers = ", ".join(f"`{pattern}`" for pattern in workload.rival_layers)
    reason = (
        ", because it cannot follow padded shortcuts, and finds all savings there"
        if workload.model == "resnet20"
        else ", all but the classifier"
    )
    return f"{dense} Torch-Pruning prunes the outputs of {layers}{reason}."
