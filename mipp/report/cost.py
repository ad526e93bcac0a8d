"""What a run cost: seconds and memory per stage."""

from __future__ import annotations

from mipp.needed_stages import search_of
from mipp.page.document import Table
from mipp.report.run import Run


def cost_table(run: Run) -> Table:
    """Seconds and peak memory of each stage, of the search and of everything."""
    rows = [
        (stage, _seconds(timing["seconds"]), f"{timing['peak_rss_mb']:,.0f}")
        for stage, timing in run.timings.items()
    ]
    total = sum(timing["seconds"] for timing in run.timings.values())
    search = f"search ({', '.join(search_of(run.selection.method))})"
    peak = f"{max((t['peak_rss_mb'] for t in run.timings.values()), default=0):,.0f}"
    return Table(
        ("stage", "seconds", "peak memory MB"),
        [
            *rows,
            (search, _seconds(run.metrics["seconds_search"]), ""),
            ("all stages", _seconds(total), peak),
        ],
        "Wall-clock time of each stage's last run. Peak memory is the process's, up to the end of "
        "the stage.",
    )


def _seconds(value: float) -> str:
    return f"{value:,.1f}"
