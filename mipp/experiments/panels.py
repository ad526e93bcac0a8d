"""What the figures of a sweep show, from its rows; drawn by `mipp.report`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from mipp.experiments.statistics import (
    BIN,
    Row,
    collapse_bins,
    layer_ratios,
    methods_of,
    summarise,
)
from mipp.report.sweep_figures import Curve, Panel

REMOVED: Mapping[str, Callable[[Row], float]] = {
    "units": lambda row: 100 * float(row["units_removed"]),
    "params": lambda row: 100 * (1 - row["params"] / row["params_dense"]),
    "MACs": lambda row: 100 * (1 - row["macs"] / row["macs_dense"]),
}
ACCURACY = "test accuracy, %"


def accuracy_panels(rows: Sequence[Row]) -> list[Panel]:
    """Accuracy after training against the share of units, params and MACs removed."""
    panels = []
    for start in _starts(rows):
        for what, removed in REMOVED.items():
            curves = _curves(_sized(rows, start), removed, "accuracy_finetuned")
            panels.append(Panel(f"pruned {start}", f"% of {what} removed", ACCURACY, curves))
    return panels


def before_retraining_panels(rows: Sequence[Row]) -> list[Panel]:
    """Accuracy before any retraining, as pruned and with the next layers refitted."""
    found = _sized(rows, "trained")
    names = {"accuracy_pruned": "as pruned", "accuracy_refit": "refitted"}
    panels = [
        Panel(title, "% of units removed", ACCURACY, _curves(found, REMOVED["units"], column))
        for column, title in names.items()
    ]
    return [panel for panel in panels if panel.curves]


def collapse_panels(rows: Sequence[Row]) -> list[Panel]:
    """Share of collapsed runs by bin of units removed."""
    panels = []
    for start in _starts(rows):
        bins = collapse_bins([row for row in rows if row["start"] == start])
        curves = {}
        for name in methods_of(rows):
            at = [k for k, found in bins.items() if name in found]
            share = [100 * bins[k][name][0] / bins[k][name][1] for k in at]
            if at:
                curves[name] = Curve([100 * BIN * (k + 0.5) for k in at], share)
        panels.append(Panel(f"pruned {start}", "% of units removed", "% of runs collapsed", curves))
    return panels


def ratio_panels(rows: Sequence[Row]) -> list[Panel]:
    """Each group's share removed over the mean of all groups', averaged over points."""
    panels = []
    for start in _starts(rows):
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        for row in rows:
            if row["start"] == start and row["method"] != "dense":
                ratios = layer_ratios(json.loads(row["widths"]), json.loads(row["widths_dense"]))
                found[row["method"]] += [ratios] if ratios else []
        groups = list(dict.fromkeys(g for ratios in found.values() for r in ratios for g in r))
        curves = {
            name: Curve(range(len(groups)), [mean(r[g] for r in ratios) for g in groups])
            for name, ratios in found.items()
        }
        ticks = groups if len(groups) <= 12 else ()
        panels.append(
            Panel(f"pruned {start}", "group", "share removed / mean", curves, ticks=ticks)
        )
    return panels


def search_panels(rows: Sequence[Row]) -> list[Panel]:
    """Seconds that the search took against accuracy."""
    panels = []
    for start in _starts(rows):
        curves = {}
        for name in methods_of(rows):
            own = [r for r in rows if (r["start"], r["method"]) == (start, name)]
            if own:
                seconds = [max(r["seconds_search"], 1e-3) for r in own]
                curves[name] = Curve(seconds, [100 * r["accuracy_finetuned"] for r in own])
        panels.append(
            Panel(f"pruned {start}", "search, seconds", ACCURACY, curves, joined=False, log=True)
        )
    return panels


def variant_panels(rows: Sequence[Row]) -> list[Panel]:
    """Accuracy against what `vary` varied, where that is one number."""
    varied = {row["variant"].partition("=")[0] for row in rows}
    try:
        values = {row["variant"]: float(row["variant"].partition("=")[2]) for row in rows}
    except ValueError:  # there are none, names, or those of several keys
        return []
    if len(varied) > 1:
        return []

    def value(row: Row) -> float:
        return values[row["variant"]]

    return [
        Panel(
            f"pruned {start}",
            min(varied),
            ACCURACY,
            _curves([r for r in rows if r["start"] == start], value, "accuracy_finetuned"),
            log=True,
        )
        for start in _starts(rows)
    ]


def confidence_panels(rows: Sequence[Row]) -> list[Panel]:
    """Ratio that a confidence led to, and accuracy under it."""
    found = [row for row in rows if row["budget_kind"] == "confidence"]

    def confidence(row: Row) -> float:
        return float(row["budget_value"])

    columns = {"units_removed": "% of units removed", "accuracy_finetuned": ACCURACY}
    return [
        Panel("by confidence", "confidence, %", name, _curves(found, confidence, column))
        for column, name in columns.items()
    ]


PANELS: Mapping[str, tuple[Callable[[Sequence[Row]], list[Panel]], str]] = {
    "accuracy": (accuracy_panels, "Accuracy after retraining; bands are one standard deviation."),
    "collapse": (collapse_panels, "Share of collapsed runs in bins of 5 % of units removed."),
    "ratios": (ratio_panels, "Share of each group's units removed, over the mean of all groups."),
    "search": (search_panels, "Search seconds against accuracy, one mark per point."),
    "before": (before_retraining_panels, "Accuracy without retraining."),
    "variant": (variant_panels, "Accuracy against what was varied."),
    "confidence": (confidence_panels, "Confidence against the ratio and accuracy that result."),
}


def _starts(rows: Sequence[Row]) -> list[str]:
    return sorted({row["start"] for row in rows})


def _sized(rows: Sequence[Row], start: str) -> list[Row]:
    """Rows of networks that there are: one with an emptied group has no size."""
    return [row for row in rows if row["start"] == start and row.get("params")]


def _curves(rows: Sequence[Row], x: Callable[[Row], float], column: str) -> dict[str, Curve]:
    """Per method the mean and deviation over seeds, in percent, at the mean x of each cell."""
    found: dict[str, dict[tuple[str, str], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.get(column) is not None and row["method"] != "dense":
            found[row["method"]][row["variant"], row["budget"]].append(row)
    curves = {}
    for name, cells in found.items():
        summaries = [summarise(100 * row[column] for row in cell) for cell in cells.values()]
        curves[name] = Curve(
            [mean(x(row) for row in cell) for cell in cells.values()],
            [summary.mean for summary in summaries],
            [summary.deviation for summary in summaries],
        )
    return curves
