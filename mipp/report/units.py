"""Every unit of a run, for a reader to sort and search."""

from __future__ import annotations

from mipp.page.document import Searched
from mipp.report.run import Run


def unit_table(run: Run) -> Searched:
    """One row per unit: what it was judged by, and what became of it and why."""
    judged = "nats added" if run.by_information() else "score"
    rows = [
        (group, unit.channel, unit.value, "kept" if unit.kept else "dropped", unit.why)
        for group, units in run.units.items()
        for unit in units
    ]
    return Searched(
        ("group", "channel", judged, "outcome", "why"),
        rows,
        filters=("group", "outcome"),
        place="choose/nodes.parquet",
        caption="What each unit was judged by when it was visited, and what became of it.",
    )
