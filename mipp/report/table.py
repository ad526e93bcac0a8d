"""The result table: one row per network of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADER = ("network", "accuracy %", "change", "params", "MACs", "latency ms")
ROWS = (
    ("dense", "dense"),
    ("pruned", "pruned"),
    ("recalibrated", "pruned, batch-norm recalibrated"),
    ("refit", "pruned, refitted"),
    ("finetuned", "pruned, fine-tuned"),
)


def result_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Cells of the result table, from `evaluate/metrics.json`; networks not made are left out."""
    dense = metrics["accuracy_dense"]
    rows = []
    for key, label in ROWS:
        accuracy = metrics[f"accuracy_{key}"]
        if accuracy is None:
            continue
        suffix = "_dense" if key == "dense" else ""
        rows.append(
            (
                label,
                f"{100 * accuracy:.2f}",
                "" if key == "dense" else f"{100 * (accuracy - dense):+.2f}",
                f"{metrics[f'params{suffix}']:,}",
                f"{metrics[f'macs{suffix}']:,}",
                f"{metrics['latency_dense_ms' if suffix else 'latency_ms']:.2f}",
            )
        )
    return rows


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned plain text; the first column to the left, the rest to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def result_table(metrics: Mapping[str, Any]) -> str:
    """The result table as plain text, with what was removed beneath it."""
    share = {key: 1 - metrics[key] / metrics[f"{key}_dense"] for key in ("params", "macs")}
    removed = (
        f"removed: {100 * metrics['units_removed']:.1f} % of units, "
        f"{100 * share['params']:.1f} % of params, {100 * share['macs']:.1f} % of MACs; "
        f"search {metrics['seconds_search']:.1f} s; latency at batch "
        f"{metrics['latency_batch']} on {metrics['latency_device']}"
    )
    return f"{text_table(HEADER, result_rows(metrics))}\n{removed}"
