"""Where kept points come from: the commit and the versions that each was measured at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.shared.command import listed, versions
from benchmarks.shared.kept import Point
from mipp.origin import commit


def measured_now() -> Point:
    """The columns `commit` and `versions` of a point that is measured here."""
    return {"commit": commit(), "versions": listed(versions())}


def origin_of(name: str, file: Path, points: Sequence[Point]) -> str:
    """A page's first paragraph: its command, its file, and which points are of which commit.

    Parameters
    ----------
    name : of the benchmark, under `benchmarks`.
    """
    places = dict.fromkeys((point["commit"], point["versions"]) for point in points)
    made = [
        f"{_counted([p for p in points if (p['commit'], p['versions']) == place])} at {place[0]} "
        f"with {place[1]}"
        for place in places
    ]
    command = f"python -m benchmarks.{name} --write"
    return f"Written by `{command}` from `{file}`. Points measured: {'; '.join(made)}."


def _counted(points: Sequence[Point]) -> str:
    """How many they are, and of which seeds."""
    seeds = sorted({point["seed"] for point in points if "seed" in point})
    return f"{len(points)} (seed {' '.join(map(str, seeds))})" if seeds else str(len(points))
