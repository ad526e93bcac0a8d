"""The rounds of a run that was pruned in several: what each left, and for how long it trained."""

from __future__ import annotations

from mipp.page.document import Table, code
from mipp.report.run import Run


def rounds_table(run: Run) -> Table:
    """One row per round."""
    rows = [
        (
            str(number),
            code(one["budget"]),
            f"{100 * one['units_removed']:.1f}",
            f"{100 * one['params']:.1f}",
            f"{100 * one['macs']:.1f}",
            str(one["epochs"]),
            _percent(one["validation_accuracy"]),
        )
        for number, one in enumerate(run.rounds, 1)
    ]
    return Table(
        ("round", "budget", "units removed %", "params %", "MACs %", "epochs", "validation %"),
        rows,
        "Pruned in rounds: what each left of the dense network, and its accuracy on the validation "
        "images after its epochs. Above, `pruned` and its repairs have the accuracy of the first "
        "round; sizes and times are those of the last.",
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"
