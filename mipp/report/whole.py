"""What stays whole by the kind of reason, with its share of the cost and what to do about it."""

from __future__ import annotations

from mipp.page.document import Table
from mipp.report.run import Run

REASONS = 3  # told of one kind


def whole_table(run: Run) -> Table:
    """One row per kind of reason, the largest share of the multiply-accumulates first."""
    rows = [
        (
            part["layers"],
            _percent(part["shares"]["macs"]),
            _percent(part["shares"]["params"]),
            _because(list(dict.fromkeys(part["reasons"].values()))),
            part["advice"],
        )
        for part in run.summary["whole"]
    ]
    return Table(
        ("layers", "MACs %", "params %", "because", "what to do"),
        rows,
        "Layers that keep all of their outputs, with their share of the dense network; they may "
        "lose inputs. `choose/summary.json` has the reason of each.",
        words=("because", "what to do"),
    )


def _because(reasons: list[str]) -> str:
    more = len(reasons) - REASONS
    return "; ".join(reasons[:REASONS]) + (f"; and {more} more" if more > 0 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"
