"""Tables of a sweep, from its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mipp.experiments.statistics import (
    BIN,
    BySeed,
    Cell,
    Row,
    by_cell,
    collapse_bins,
    methods_of,
    paired_difference,
    share_near_best,
    summarise,
)
from mipp.page.document import Table

PERCENT = 100.0


def mean_table(
    rows: Sequence[Row], start: str, column: str, caption: str, factor: float = PERCENT
) -> Table:
    """Mean ± standard deviation (seeds) of a column: a row per method, a column per budget."""

    def cell(methods: Mapping[str, BySeed], name: str) -> str:
        if name not in methods:
            return "-"
        found = summarise(factor * value for value in methods[name].values())
        digits = 2 if factor == PERCENT or found.mean < PERCENT else 0
        return f"{found.text(digits)} ({found.seeds})"

    return _by_budget(rows, start, column, cell, caption)


def difference_table(rows: Sequence[Row], start: str) -> Table:
    """Accuracy of mipp less that of each method, in points, with its interval."""

    def cell(methods: Mapping[str, BySeed], name: str) -> str:
        if name == "mipp" or name not in methods or "mipp" not in methods:
            return "-"
        found = paired_difference(methods["mipp"], methods[name])
        low, high = PERCENT * found.low, PERCENT * found.high
        return f"{PERCENT * found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"

    caption = (
        "mipp's accuracy less the method's, in points, pruned "
        f"{start}: mean of paired differences over seeds and 95 % bootstrap interval. With three "
        "seeds the interval is the range of the three differences."
    )
    return _by_budget(rows, start, "accuracy_finetuned", cell, caption)


def _by_budget(
    rows: Sequence[Row],
    start: str,
    column: str,
    text: Callable[[Mapping[str, BySeed], str], str],
    caption: str,
) -> Table:
    cells = {c: m for c, m in by_cell(rows, column).items() if c[0] == start}
    names = [name for name in methods_of(rows) if any(name in m for m in cells.values())]
    header = ["method", *(_spell(cell) for cell in cells)]
    body = [[name, *(text(methods, name) for methods in cells.values())] for name in names]
    return Table(header, body, caption)


def _spell(cell: Cell) -> str:
    return " ".join(part for part in (cell[2], cell[1]) if part)


def collapse_table(rows: Sequence[Row]) -> Table:
    """Collapsed runs of all runs, by method and bin of units removed."""
    bins = collapse_bins(rows)
    header = ["method", *(f"{100 * BIN * k:.0f} to {100 * BIN * (k + 1):.0f} %" for k in bins)]
    body = [
        [name, *(f"{b[name][0]} of {b[name][1]}" if name in b else "-" for b in bins.values())]
        for name in methods_of(rows)
    ]
    return Table(
        header,
        body,
        "Collapsed runs by share of units removed: a group emptied, or accuracy after training "
        "no better than 1.02 times that of the best constant answer.",
    )


def dense_sentence(rows: Sequence[Row], start: str) -> str:
    """What the dense network reaches, trained as the pruned ones are."""
    values = [
        r["accuracy_finetuned"] for r in rows if (r["method"], r["start"]) == ("dense", start)
    ]
    if not values:
        return ""
    found = summarise(PERCENT * value for value in values)
    return (
        f"The dense network, given the same training, reaches {found.text()} % "
        f"({found.seeds} seeds)."
    )


def verdict(rows: Sequence[Row], start: str) -> str:
    """In how many cells mipp is near the best, and where it is not."""
    cells = by_cell(rows)
    near, compared = share_near_best(cells, start)
    return f"{share_sentence(start, near, compared)}."


def share_sentence(start: str, near: int, compared: int) -> str:
    """In how many of the compared cells mipp is near the best; without a full stop."""
    if not compared:
        return f"Pruned {start}, mipp has no rivals here"
    return (
        f"Pruned {start}, mipp's mean is the best, or within one standard deviation of the best, "
        f"in {near} of {compared} cells ({100 * near / compared:.0f} %)"
    )


def lost_cells(rows: Sequence[Row], start: str) -> list[str]:
    """One sentence for each cell in which mipp is not near the best."""
    sentences = []
    for cell, methods in by_cell(rows).items():
        if cell[0] != start or "mipp" not in methods:
            continue
        found = {
            name: summarise(PERCENT * value for value in values.values())
            for name, values in methods.items()
        }
        best = max(found, key=lambda name: found[name].mean)
        if found["mipp"].mean < found[best].mean - found[best].deviation:
            sentences.append(
                f"{_spell(cell)}, {start}: {best} reaches {found[best].text()} %, "
                f"mipp {found['mipp'].mean:.2f} %."
            )
    return sentences
