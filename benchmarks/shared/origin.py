"""Where kept points come from: the commit and the versions that each was measured at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.shared.command import listed, versions
from benchmarks.shared.kept import Point
from mipp.origin import commit


def measured_now() -> Point:
    """The columns `commit` and `versions` of a point that is measured here."""
    return {"commit": commit(), "versions": listed(versions())}


def origin_of(name: str, file: Path, points: Sequence[Point]) -> str:
    """A page's first paragraph: its command, its file, and how many points are of which commit.

    Parameters
    ----------
    name : of the benchmark, under `benchmarks`.
    """
    counted = Counter((point["commit"], point["versions"]) for point in points)
    made = [f"{count} at {of} with {found}" for (of, found), count in counted.items()]
    command = f"python -m benchmarks.{name} --write"
    return f"Written by `{command}` from `{file}`. Points measured: {'; '.join(made)}."
