"""What `ablations.weighting` keeps, and the table made of it: of several plans the better one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import eq
from statistics import mean
from typing import Any

from benchmarks.shared.kept import Point
from benchmarks.shared.point_table import PointTable
from benchmarks.shared.tables import markdown_of, spread

KEY = ("workload", "budget", "images", "test_images", "way", "seed")
COLUMNS = ("macs", "error", "accuracy", "cpu_seconds")
PLAIN = "as measured"
STREAMS = {f"streams x {factor:g}": factor for factor in (1.5, 3.0)}
ALL = "the best of all"
NOTES = """\
Channels of some groups count more than their nats say: those of residual streams, those of one
third of the network's groups (twice, or half as much), or both. *error*: of the outputs, as a
share of their variance, on a tenth of the calibration images that neither measurement nor refit
sees. *the better of*, *the best of*: for each seed the plan with the lowest such error. *gain*:
in points of accuracy, over the plan as measured, same seeds."""
CHOSEN: dict[str, Callable[[str], bool]] = {
    **{name: partial(eq, name) for name in (PLAIN, *STREAMS)},
    **{f"the better of {PLAIN}, {name}": (PLAIN, name).__contains__ for name in STREAMS},
    ALL: lambda way: True,
}


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """For each network and budget: both plans, and what the error chooses."""
    settings = KEY[:4]
    return [
        dict(zip(settings, key, strict=True)) | row
        for key in dict.fromkeys(tuple(p[name] for name in settings) for p in points)
        for row in _rows([p for p in points if tuple(p[name] for name in settings) == key])
    ]


def _rows(own: Sequence[Point]) -> list[dict[str, Any]]:
    plain = {p["seed"]: p for p in own if p["way"] == PLAIN}
    rows = []
    for name, among in CHOSEN.items():
        ways = {p["way"] for p in own if among(p["way"])}
        if not ways or (name == ALL and len(ways) <= 1 + len(STREAMS)):
            continue
        best = [
            min(mine, key=lambda p: float(p["error"]))
            for seed in plain
            if (mine := [p for p in own if p["seed"] == seed and p["way"] in ways])
        ]
        gains = [p["accuracy"] - plain[p["seed"]]["accuracy"] for p in best]
        rows.append(
            {
                "plan": name,
                "of": len(ways),
                "seeds": len(best),
                "MACs %": spread(p["macs"] for p in best),
                "error": f"{mean(p['error'] for p in best):.4f}",
                "accuracy %": spread(p["accuracy"] for p in best),
                "gain": f"{mean(gains):+.2f}",
            }
        )
    return rows


def section(points: Sequence[Point]) -> list[str]:
    """Lines of a page, none without points."""
    if not points:
        return []
    return [
        f"Widths by the error of outputs (`python -m benchmarks.ablations.weighting --write`, "
        f"`{KEPT.file}`). {NOTES}",
        "",
        *markdown_of(table(points), str),
    ]


KEPT = PointTable("ablations.weighting", "", NOTES, KEY, COLUMNS, table)
