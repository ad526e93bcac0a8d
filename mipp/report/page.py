"""The report of one run as a page."""

from __future__ import annotations

import json
from pathlib import Path

from mipp.report.table import result_table


def render(workdir: Path, out: Path, *, title: str) -> None:
    """Write `report.html` and `report.md` from the stage folders of a run."""
    metrics = json.loads((workdir / "evaluate/metrics.json").read_text())
    text = f"# {title}\n\n```\n{result_table(metrics)}\n```\n"
    (out / "report.md").write_text(text)
    (out / "report.html").write_text(f"<title>{title}</title><pre>{text}</pre>")
