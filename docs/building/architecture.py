"""The packages and who imports whom, read from the sources and drawn as SVG."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

WIDTH, HEIGHT, GAP, RISE, MARGIN = 118, 30, 16, 74, 12  # of boxes and what is between, in pixels
STYLE = """\
text { font: 13px system-ui, sans-serif; text-anchor: middle; fill: #1f2328; }
rect { fill: #eef1fb; stroke: #3f51b5; rx: 5px; }
path { fill: none; stroke: #8a94c8; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ed; } rect { fill: #232838; stroke: #8c9eff; } path { stroke: #5a658f; } }"""
Graph = Mapping[str, frozenset[str]]


def imports_of_packages(root: Path) -> dict[str, frozenset[str]]:
    """Package -> packages that its modules import.

    Packages are the folders of `mipp`, and `tasks` and `flows` as a whole.
    """
    folders = {
        f"mipp.{path.name}": path for path in (root / "mipp").iterdir() if any(path.glob("*.py"))
    }
    folders |= {top: root / top for top in ("tasks", "flows")}
    return {
        package: frozenset(
            other
            for path in folder.rglob("*.py")
            for name in _imported(path.read_text())
            for other in (_package_of(name),)
            if other in folders and other != package
        )
        for package, folder in folders.items()
    }


def needed(graph: Graph) -> dict[str, frozenset[str]]:
    """Imports that do not follow from others: the transitive reduction.

    Example
    -------
    >>> chain = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}
    >>> sorted(needed(chain)["a"])
    ['b']
    """
    below = {package: _below(graph, package) for package in graph}
    return {
        package: frozenset(o for o in others if not any(o in below[p] for p in others - {o}))
        for package, others in graph.items()
    }


def heights(graph: Graph) -> dict[str, int]:
    """Rows of a drawing, from 0 up: a package stands above all that it imports."""
    placed: dict[str, int] = {}
    while len(placed) < len(graph):
        free = [p for p in graph if p not in placed and graph[p] <= placed.keys()]
        if not free:
            raise ValueError(
                f"packages import each other in a circle: {sorted(graph.keys() - placed.keys())}"
            )
        placed |= {p: 1 + max((placed[o] for o in graph[p]), default=-1) for p in free}
    return placed


def drawing(graph: Graph) -> str:
    """SVG of the packages, each above those that it imports; lines are the needed imports."""
    rows = _rows(heights(graph))
    wide = max(map(len, rows)) * (WIDTH + GAP) - GAP + 2 * MARGIN
    high = len(rows) * RISE - (RISE - HEIGHT) + 2 * MARGIN
    places = {}
    for height, row in enumerate(rows):
        step = (wide - 2 * MARGIN) / len(row)
        for at, package in enumerate(row):
            x = MARGIN + step * (at + 0.5) - WIDTH / 2
            places[package] = (x, high - MARGIN - HEIGHT - height * RISE)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" role="img">',
        "<title>Packages, each above those that it imports</title>",
        f"<style>{STYLE}</style>",
        *_lines(needed(graph), places),
        *_boxes(places),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _rows(levels: Mapping[str, int]) -> list[list[str]]:
    rows: list[list[str]] = [[] for _ in range(max(levels.values()) + 1)]
    for package in sorted(levels):
        rows[levels[package]].append(package)
    return rows


def _lines(graph: Graph, places: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for package, others in graph.items():
        x, y = places[package][0] + WIDTH / 2, places[package][1] + HEIGHT
        for other in sorted(others):
            to_x, to_y = places[other][0] + WIDTH / 2, places[other][1]
            middle = (y + to_y) / 2
            yield f'<path d="M{x:g} {y:g}C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"/>'


def _boxes(places: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for package, (x, y) in places.items():
        yield f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}"/>'
        name = escape(package.removeprefix("mipp."))
        yield f'<text x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2 + 5:g}">{name}</text>'


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _package_of(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "mipp" else parts[0]


def _below(graph: Graph, package: str) -> set[str]:
    seen: set[str] = set()
    waiting = [*graph[package]]
    while waiting:
        other = waiting.pop()
        if other not in seen:
            seen.add(other)
            waiting += graph[other]
    return seen
