"""Stage `evaluate`: every number that a run reports, in one file."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mipp.checkpoint import Checkpoint
from mipp.config import EvaluateConfig, Params
from mipp.data import DataSplits
from mipp.device import describe_device, resolve_device
from mipp.disk.workdir import read_timing
from mipp.export import export_network
from mipp.metrics import accuracy, count_macs, count_params, latencies_ms
from mipp.needed_stages import is_needed, search_of
from mipp.process.peak_memory import peak_rss_mb
from mipp.stages.context import Context
from mipp.stages.files import final_selection, load_selection, read_json, write_json
from mipp.stages.networks import load_dense, load_network
from mipp.stages.splits import at_once, load_splits

NETWORKS = {
    "pruned": "prune/pruned",
    "recalibrated": "prune/recalibrated",
    "refit": "prune/refit",
    "distilled": "prune/distilled",
    "finetuned": "finetune/model",
}
_DENSE_ACCURACY: dict[tuple[object, ...], float] = {}  # points of a sweep share dense networks
SHORT, MORE = 100.0, 10  # milliseconds of all passes, below which they are ten times as many
PROGRAMS = "export"  # a folder, there whatever is exported: DVC wants each of its outputs


def evaluate_networks(context: Context) -> None:
    """Write `metrics.json`: accuracy of each network on the test split, size, speed, cost.

    Beside it `export/` holds the final network as programs.
    """
    started = time.perf_counter()
    params, workdir = context.params, context.workdir.folder
    device = resolve_device(params.compute.device)
    splits = load_splits(params)
    dense = load_dense(workdir, device)
    final = load_network(workdir / "finetune/model.safetensors", device)
    batch_size = at_once(params.evaluate.batch_size, splits.shape)
    metrics: dict[str, Any] = {
        "pruned_when": _pruned_when(params),
        "accuracy_dense": _dense_accuracy(workdir, dense, splits, batch_size, device),
        **_accuracies(workdir, splits, batch_size, device),
        "test_images": len(splits.test),
        **_sizes(dense, final),
        **_latency(dense, final, params.evaluate, device),
    }
    metrics |= _collapse(workdir, splits, metrics["accuracy_finetuned"])
    metrics |= _cost(workdir)  # before the exporter, whose memory no stage of pruning needs
    metrics["exports"] = _exports(final, context.out / PROGRAMS, params.evaluate)
    metrics["seconds_evaluate"] = time.perf_counter() - started
    write_json(context.out / "metrics.json", metrics)


def _pruned_when(params: Params) -> str:
    """Whether anything, here or elsewhere, had trained the network before it was pruned."""
    if params.train.when == "after-pruning":
        return "untrained"  # given weights are then the initialisation
    return "trained" if params.train.epochs or params.model.weights else "untrained"


def _dense_accuracy(
    workdir: Path, dense: Checkpoint, splits: DataSplits, batch_size: int, device: torch.device
) -> float:
    """Share of correct test images, measured once in a process for a file and a test split."""
    file = (workdir / "train/model.safetensors").resolve()
    asked = (file, file.stat().st_mtime_ns, splits.test.fingerprint, batch_size, device)
    if asked not in _DENSE_ACCURACY:
        _DENSE_ACCURACY[asked] = accuracy(
            dense.model, splits.test, batch_size=batch_size, device=device
        )
    return _DENSE_ACCURACY[asked]


def _accuracies(
    workdir: Path, splits: DataSplits, batch_size: int, device: torch.device
) -> dict[str, float | None]:
    """Share of correct test images; None for a network that was not asked for."""
    found: dict[str, float | None] = {}
    for name, path in NETWORKS.items():
        file = workdir / f"{path}.safetensors"
        found[f"accuracy_{name}"] = None
        if file.exists():
            model = load_network(file, device).model
            found[f"accuracy_{name}"] = accuracy(
                model, splits.test, batch_size=batch_size, device=device
            )
    return found


def _sizes(dense: Checkpoint, final: Checkpoint) -> dict[str, float]:
    assert final.selection is not None
    return {
        "units_removed": final.selection.units_removed(),
        "params": count_params(final.model),
        "params_dense": count_params(dense.model),
        "macs": count_macs(final.model, final.shape),
        "macs_dense": count_macs(dense.model, dense.shape),
    }


def _latency(
    dense: Checkpoint, final: Checkpoint, config: EvaluateConfig, device: torch.device
) -> dict[str, Any]:
    timed = partial(
        latencies_ms,
        [dense.model, final.model],
        dense.shape,
        batch=config.latency_batch,
        device=device,
    )
    before, after = timed(repeats=config.latency_repeats)
    if (before + after) * config.latency_repeats < SHORT:
        before, after = timed(repeats=MORE * config.latency_repeats)
    return {
        "latency_ms": after,
        "latency_dense_ms": before,
        "latency_batch": config.latency_batch,
        "latency_device": describe_device(device),
    }


def _collapse(workdir: Path, splits: DataSplits, finetuned: float) -> dict[str, Any]:
    """Collapsed: a group is empty, or the final network does no better than a constant answer."""
    selection = final_selection(workdir)
    empty = [group for group, count in selection.counts().items() if count == 0]
    constant = np.bincount(splits.test.labels.numpy()).max() / len(splits.test)
    return {
        "collapsed": bool(empty or finetuned <= constant * 1.02),
        "collapsed_groups": empty,
        "near_collapsed_groups": read_json(workdir / "choose/summary.json")[
            "near_collapsed_groups"
        ],
    }


def _exports(final: Checkpoint, folder: Path, config: EvaluateConfig) -> dict[str, dict[str, Any]]:
    """What was exported, by kind; `batch` is the only batch size that a program takes."""
    folder.mkdir()
    if not config.export:
        return {}
    return {
        done.kind: {
            "file": f"evaluate/{PROGRAMS}/{done.path.name}",
            "bytes": done.bytes,
            "batch": done.batch,
        }
        for done in export_network(final.model, final.shape, folder, kinds=config.export)
    }


def _cost(workdir: Path) -> dict[str, float]:
    """Seconds of each stage, none of one that the method did not need, and the highest memory."""
    method = load_selection(workdir).method
    seconds, peaks = {}, [peak_rss_mb()]
    for stage in ("train", "extract", "estimate", "choose", "prune", "finetune"):
        timing = read_timing(workdir / stage) if is_needed(stage, method) else {}
        seconds[stage] = timing.get("seconds", 0.0)
        peaks.append(timing.get("peak_rss_mb", 0.0))
    return {
        **{f"seconds_{stage}": value for stage, value in seconds.items()},
        "seconds_search": sum(seconds[stage] for stage in search_of(method)),
        "peak_rss_mb": max(peaks),
    }
