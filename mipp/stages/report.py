"""Stage `report`: one page that shows what was gained and lost."""

from __future__ import annotations

from mipp.report import render
from mipp.stages.context import Context


def write_report(context: Context) -> None:
    """Write `report.html`, self-contained, `report.md` and `figures/`."""
    render(context.workdir.folder, context.out, title=context.params.report.title)
