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
    ("distilled", "pruned, refitted, distilled"),
    ("finetuned", "pruned, fine-tuned"),
)
NOT_FINETUNED = "final, not fine-tuned"
UNTRAINED = {
    "dense": "dense, untrained",
    "pruned": "pruned, untrained",
    "finetuned": "pruned, then trained",
}


def result_rows(metrics: Mapping[str, Any], epochs: int | None = None) -> list[tuple[str, ...]]:
    """Cells of the result table, from `evaluate/metrics.json`; networks not made are left out.

    Parameters
    ----------
    epochs : after pruning, where known; with 0 the last row does not claim any.

    Returns
    -------
    Rows as in `HEADER`. Of a network that was pruned untrained no change is given: against
    chance, any accuracy would be a gain.
    """
    dense, untrained = metrics["accuracy_dense"], pruned_untrained(metrics)
    rows: list[tuple[str, ...]] = []
    for key, label in ROWS:
        accuracy = metrics[f"accuracy_{key}"]
        if accuracy is None:
            continue
        suffix = "_dense" if key == "dense" else ""
        rows.append(
            (
                _label(key, UNTRAINED.get(key, label) if untrained else label, epochs),
                f"{100 * accuracy:.2f}",
                "" if key == "dense" or untrained else f"{100 * (accuracy - dense):+.2f}",
                f"{metrics[f'params{suffix}']:,}",
                f"{metrics[f'macs{suffix}']:,}",
                f"{metrics['latency_dense_ms' if suffix else 'latency_ms']:.2f}",
            )
        )
    return rows


def _label(key: str, label: str, epochs: int | None) -> str:
    if key != "finetuned" or epochs is None:
        return label
    if epochs == 0:
        return NOT_FINETUNED
    return f"{label} for {spell_epochs(epochs)}" if label == UNTRAINED[key] else label


def spell_epochs(epochs: int) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{epochs} epoch{'' if epochs == 1 else 's'}"


def pruned_untrained(metrics: Mapping[str, Any]) -> bool:
    """Whether nothing had trained the network before it was pruned."""
    return bool(metrics["pruned_when"] == "untrained")


def share_kept(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What remains of the dense network's units, params, MACs and latency, 1 being all."""
    return {
        "units": 1 - metrics["units_removed"],
        "params": metrics["params"] / metrics["params_dense"],
        "MACs": metrics["macs"] / metrics["macs_dense"],
        "latency": metrics["latency_ms"] / metrics["latency_dense_ms"],
    }


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


def result_table(metrics: Mapping[str, Any], epochs: int | None = None) -> str:
    """The result table as plain text, with what was removed and gained beneath it.

    Parameters
    ----------
    epochs : as for `result_rows`.
    """
    share = share_kept(metrics)
    removed = ", ".join(f"{100 * (1 - share[k]):.1f} % of {k}" for k in ("units", "params", "MACs"))
    return (
        f"{text_table(HEADER, result_rows(metrics, epochs))}\n"
        f"removed: {removed}\n"
        f"speed-up: {1 / share['latency']:.2f}x at batch {metrics['latency_batch']} on "
        f"{metrics['latency_device']}; search took {metrics['seconds_search']:.1f} s"
    )
