"""The first page's tables of what other benchmarks keep: no training, long training, and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy import repairing_page, results, rounds
from benchmarks.accuracy.methods import NAMES
from benchmarks.accuracy.repairing_methods import METHODS
from benchmarks.cost.search_page import REAL_SIZE, by_network
from benchmarks.shared.kept import RESULTS, read_json
from mipp.page.document import Block, Table, Text

NOT_MEASURED = "Not measured."
LONG = 30  # epochs, and more


def without_training() -> list[Block]:
    """Accuracy after each repair, a column per network and budget."""
    points = repairing_page.points_in(repairing_page.FILE).all()
    if not points:
        return [Text(NOT_MEASURED)]
    columns: dict[str, dict[str, str]] = {}
    for network in dict.fromkeys(point["workload"] for point in points):
        own = [point for point in points if point["workload"] == network]
        for row in repairing_page.table(own):
            columns.setdefault(f"{network}, {row['budget']}", {})[row["method"]] = _best(row)
    body = [
        [name, method.kind, *(cells.get(name, "-") for cells in columns.values())]
        for name, method in METHODS.items()
        if any(name in cells for cells in columns.values())
    ]
    caption = (
        "Test accuracy in %, the better of repaired and recalibrated; all of it, with seeds and "
        "commits, in docs/repairing.md."
    )
    return [Table(["method", "kind", *columns], body, caption)]


def _best(row: dict[str, Any]) -> str:
    found = [row[name] for name in repairing_page.ACCURACIES if row[name]]
    return f"{max(found, key=lambda text: float(text.split()[0]))} ({row['seeds']})"


def long_training() -> list[Block]:
    """Accuracy after thirty epochs and more: beside rivals, and in rounds or with a teacher."""
    points = [p for p in results.points_in(results.FILE).all() if p["epochs"] >= LONG]
    blocks: list[Block] = []
    for settings in results.settings_of(points):
        own = results.under(points, settings)
        rows = results.table(own, NAMES)
        sizes = ("method", "seeds", "MACs %", "params %")
        body = [
            [*(str(row[name]) for name in sizes), row["fine-tuned"] or row["raw"]] for row in rows
        ]
        first = own[0]
        caption = (
            f"{first['workload']}, {first['budget']}: test accuracy in % after {first['epochs']} "
            f"epochs in {first['precision']} on {first['train_images']:,} images; more, with the "
            "command, in docs/accuracy.md."
        )
        blocks += [
            Table([*sizes, "accuracy"], body, caption),
            Text(" ".join(results.verdicts(own))),
        ]
    ways = rounds.table(
        [p for p in rounds.KEPT.points(rounds.KEPT.file).all() if p["epochs"] >= LONG]
    )
    if ways:
        body = [[str(cell) for cell in row.values()] for row in ways]
        caption = f"{rounds.NETWORK}, this project alone; what the columns are, in docs/rounds.md."
        blocks.append(Table(list(ways[0]), body, caption))
    return blocks or [Text(NOT_MEASURED)]


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
