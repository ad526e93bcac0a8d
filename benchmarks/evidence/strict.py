"""Wins, open comparisons and losses over all kept sweeps, by the sign of all paired seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mipp.experiments.statistics import (
    Count,
    Row,
    by_cell,
    paired_difference,
    strict_counts,
    strict_sign,
)
from mipp.page.document import Block, Table, Text

RULE = (
    "A comparison is of two methods in one cell: an experiment, pruned trained or untrained, and a "
    "budget. It is won by the one that is above the other on every seed that both have, of three "
    "at least; otherwise it is open. The rule is the same for every method, and for controls."
)
OURS = "mipp"

Tables = Mapping[str, Sequence[Row]]


def headline(tables: Tables) -> str:
    """Our own count, over everything."""
    count = _counts(tables).get(OURS, Count())
    return (
        f"Over all kept sweeps, pruned trained and untrained, mipp is above another method on "
        f"every paired seed in {count.won} comparisons, below it on every one in {count.lost}; "
        f"{count.open} are open."
    )


def strict_blocks(tables: Tables) -> list[Block]:
    """The count of every method, and each of our losses by name."""
    counts = sorted(_counts(tables).items(), key=lambda item: (item[1].lost - item[1].won, item[0]))
    body = [[name, str(c.won), str(c.open), str(c.lost)] for name, c in counts]
    losses = _losses(tables)
    named: list[Block] = [Text("mipp lost no comparison.")]
    if losses:
        caption = "Every comparison that mipp lost: its accuracy less the other's, in points."
        named = [Table(["experiment", "pruned", "budget", "lost to", "by"], losses, caption)]
    return [Text(RULE), Table(["method", "won", "open", "lost"], body), *named]


def _counts(tables: Tables) -> dict[str, Count]:
    return strict_counts(cell for rows in tables.values() for cell in by_cell(rows).values())


def _losses(tables: Tables) -> list[list[str]]:
    found = []
    for experiment, rows in tables.items():
        for (start, variant, budget), methods in by_cell(rows).items():
            for name in sorted(methods.keys() - {OURS}) if OURS in methods else ():
                if strict_sign(methods[OURS], methods[name]) < 0:
                    by = 100 * paired_difference(methods[OURS], methods[name]).mean
                    where = " ".join(part for part in (budget, variant) if part)
                    found.append([experiment, start, where, name, f"{by:+.2f}"])
    return found
