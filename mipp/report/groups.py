"""What became of each channel group, and of each layer that was refitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mipp.page.document import Table, Width, Widths, code
from mipp.report.run import Run


@dataclass(frozen=True)
class GroupOutcome:
    """One group: how much of it stays, and what the units that went and stay were worth."""

    name: str
    width: int
    kept: int
    by_floor: int  # kept only because of choose.min_channels
    information: float | None  # nats of the whole group; None where the method has none
    given_up: float  # sum over dropped units of what they were judged by
    most_dropped: float | None  # None where nothing was dropped
    least_kept: float | None  # None where nothing is kept


Columns = Mapping[str, Callable[[GroupOutcome], float | None]]
INFORMATION: tuple[Columns, str] = (
    {
        "nats": lambda o: o.information,
        "given up": lambda o: o.given_up,
        "least kept": lambda o: o.least_kept,
    },
    "Groups by the last layer that reads them, inputs first; information in nats. `nats`: of the "
    "whole group about the outputs of the layers that read it. `given up`: sum of what each "
    "dropped unit still added when it was visited. `least kept`: the least that a kept unit adds.",
)
SCORE: tuple[Columns, str] = (
    {"most dropped": lambda o: o.most_dropped, "least kept": lambda o: o.least_kept},
    "Groups by the last layer that reads them, inputs first; the greatest score of a dropped "
    "unit and the least of a kept one.",
)


def group_outcomes(run: Run) -> list[GroupOutcome]:
    """One outcome per group, from the inputs to the outputs."""
    information = run.summary.get("information", {})
    outcomes = []
    for name, units in run.units.items():
        kept = [unit.value for unit in units if unit.kept]
        dropped = [unit.value for unit in units if not unit.kept]
        outcomes.append(
            GroupOutcome(
                name=name,
                width=len(units),
                kept=len(kept),
                by_floor=sum(unit.why == "floor" for unit in units),
                information=information.get(name),
                given_up=sum(dropped),
                most_dropped=max(dropped, default=None),
                least_kept=min(kept, default=None),
            )
        )
    return outcomes


def group_widths(run: Run) -> Widths:
    """Widths of every group before and after, and what its units were judged by."""
    columns, caption = INFORMATION if run.by_information() else SCORE
    outcomes = group_outcomes(run)
    width, kept = sum(o.width for o in outcomes), sum(o.kept for o in outcomes)
    rows = [
        Width(
            code(o.name),
            o.width,
            o.kept,
            (_dropped(o.width, o.kept), *(number(value(o)) for value in columns.values())),
        )
        for o in outcomes
    ]
    in_all = f"In all {width:,} units, of which {kept:,} stay ({_dropped(width, kept)} % go). "
    return Widths(rows, ("dropped %", *columns), in_all + caption)


def refit_table(run: Run) -> Table:
    """Reconstruction error of each refitted layer."""
    return Table(
        ("layer", "error before", "error after", "left %"),
        [
            (
                code(fit["layer"]),
                number(fit["error_before"]),
                number(fit["error_after"]),
                _left(fit["error_before"], fit["error_after"]),
            )
            for fit in run.fits
        ],
        "Refit without training, layer by layer: squared error of the outputs against the dense "
        "network's, as a share of their variance. The layers ahead are refitted already in both.",
    )


def number(value: float | None) -> str:
    """Three significant digits; a dash for what does not exist."""
    return "-" if value is None else f"{value:.3g}"


def _dropped(width: int, kept: int) -> str:
    return f"{100 * (1 - kept / width):.1f}"


def _left(before: float, after: float) -> str:
    return f"{100 * after / before:.1f}" if before > 0 else "-"
