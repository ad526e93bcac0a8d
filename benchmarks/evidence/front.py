"""The first page's tables of what other benchmarks keep: no training, and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy import repairing_page
from benchmarks.accuracy.repairing_methods import METHODS
from benchmarks.cost.search_page import REAL_SIZE, by_network
from benchmarks.shared.kept import RESULTS, read_json
from mipp.report.document import Block, Table, Text

NOT_MEASURED = "Not measured."


def without_training() -> list[Block]:
    """Accuracy after each repair, a column per budget."""
    points = repairing_page.points_in(repairing_page.FILE).all()
    if not points:
        return [Text(NOT_MEASURED)]
    rows = repairing_page.table(points)
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    body = []
    for name in (name for name in METHODS if any(row["method"] == name for row in rows)):
        of_budget = {row["budget"]: row for row in rows if row["method"] == name}
        cells = [_best(of_budget[b]) if b in of_budget else "-" for b in budgets]
        body.append([name, METHODS[name].kind, *cells])
    caption = (
        "Test accuracy in %, the better of repaired and recalibrated; all of it, with seeds and "
        "commits, in docs/repairing.md."
    )
    return [Table(["method", "kind", *budgets], body, caption)]


def _best(row: dict[str, Any]) -> str:
    found = [row[name] for name in repairing_page.ACCURACIES if row[name]]
    return f"{max(found, key=lambda text: float(text.split()[0]))} ({row['seeds']})"


def cost() -> list[Block]:
    """A search in forward passes: small images beside a Taylor pass, then ImageNet's size."""
    small = [read_json(file) for file in sorted(RESULTS.glob("search-*.json"))]
    blocks: list[Block] = []
    if small:
        body = [
            [
                found["model"],
                f"{found['images']:,}",
                f"{found['search_over_forward'][0]:.2f}",
                f"{found['search_over_taylor'][0]:.2f}",
            ]
            for found in small
        ]
        header = ["network, 32 pixels", "images", "forward passes", "Taylor passes"]
        caption = "A search of the pipeline, with its store; beside Torch-Pruning's Taylor pass."
        blocks.append(Table(header, body, caption))
    if REAL_SIZE.exists():
        blocks.append(_real_size(by_network(read_json(REAL_SIZE)["rows"])))
    return blocks or [Text(NOT_MEASURED)]


def _real_size(rows: Sequence[Mapping[str, Any]]) -> Table:
    body = [
        [
            row["network"].rpartition("/")[2],
            f"{row['images']:,}",
            f"{row['extract, estimate'] + row['choose']:.2f}",
            f"{row['whole']:.2f}",
            f"{row['GB, whole']:.2f}",
        ]
        for row in rows
    ]
    header = ["network, 224 pixels", "images", "search, passes", "with refit, passes", "GB"]
    caption = "`mipp.prune` with all defaults; more, with commands, in docs/search.md."
    return Table(header, body, caption)
