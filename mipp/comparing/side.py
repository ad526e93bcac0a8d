"""One of two pruned networks, as a comparison reads it: from Python, or from a work directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mipp.config.yaml_values import dotted
from mipp.disk.storage import Workdir
from mipp.errors import ConfigError
from mipp.pruning.pruned import Pruned
from mipp.report.run import NEEDED, Run, read_run
from mipp.selection.selection import Selection

NETWORKS = ("pruned", "recalibrated", "refit", "distilled", "finetuned")


@dataclass(frozen=True)
class Side:
    """What is known of one network.

    Parameters
    ----------
    chosen_by : the method, and the settings that it was used with.
    params : dotted parameters of all stages, empty where there was no pipeline.
    numbers : what was counted and measured, by its line in the table; None where it was not.
    """

    name: str
    chosen_by: Mapping[str, Any]
    params: Mapping[str, Any]
    numbers: Mapping[str, float | None]
    selection: Selection


def side_of(given: Pruned | str | Path) -> Side:
    """A network that `mipp.prune` returned, or that of a work directory or of its URL.

    Raises
    ------
    ConfigError : it is neither.
    WorkdirError : a stage of the work directory is missing.
    """
    if isinstance(given, (str, Path)):
        workdir = Workdir.open(given)
        for stage in NEEDED:
            workdir.stage(stage)
        return _of_run(str(given), read_run(workdir.folder))
    if isinstance(given, Pruned):
        return _of_pruned(given)
    raise ConfigError(
        "compare: expected what mipp.prune returned, or a work directory, got a "
        f"{type(given).__name__}; pass pruned itself, not its model or report."
    )


def _of_pruned(pruned: Pruned) -> Side:
    report, selection = pruned.report, pruned.selection
    best = report.latency.best() if report.latency else None
    numbers = {
        **_sizes(report, selection),
        "latency, share of dense": best.measured if best else None,
        "seconds": report.seconds,
    }
    name = f"{selection.method} at {selection.provenance.get('budget', 'a budget')}"
    return Side(name, _chosen_by(selection), {}, numbers, selection)


def _of_run(name: str, run: Run) -> Side:
    metrics = run.metrics
    accuracies = {f"accuracy, {key}": metrics[f"accuracy_{key}"] for key in ("dense", *NETWORKS)}
    latency, dense = metrics["latency_ms"], metrics["latency_dense_ms"]
    numbers = {
        **accuracies,
        **{key: metrics[key] for key in ("params", "params_dense", "macs", "macs_dense")},
        "units removed": run.selection.units_removed(),
        "latency ms": latency,
        "latency ms, dense": dense,
        "latency, share of dense": latency / dense,
        "seconds of search": metrics["seconds_search"],
    }
    flat = dict(dotted(run.params))
    return Side(name, _chosen_by(run.selection), flat, numbers, run.selection)


def _sizes(report: Any, selection: Selection) -> dict[str, float]:
    sizes = {key: getattr(report, key) for key in ("params", "params_dense", "macs", "macs_dense")}
    return {**sizes, "units removed": selection.units_removed()}


def _chosen_by(selection: Selection) -> dict[str, Any]:
    return {"method": selection.method, **selection.provenance}
