"""The sources that a module's answers depend on: its import closure, and the hash of it.

    mipp.stages.choose   from mipp.graph import build_graph       -> mipp/graph/build.py
                         from mipp.metrics import count_macs      -> mipp/metrics.py
    mipp/graph/build.py  def f(): from mipp.graph.heads import g  -> mipp/graph/heads.py

An `__init__` that only hands names on is passed through to the module that defines them, and so
never counts itself; one that imports whatever lies beside it, by `iter_modules(__path__)`, counts
with all of it. Other imports by a computed name are not seen. A file is read once in a process:
what counts is the code that runs, whatever becomes of the file meanwhile.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

PACKAGE = Path(__file__).parent
STDLIB = Path(sysconfig.get_path("stdlib"))
INSTALLED = ("site-packages", "dist-packages")  # folders whose packages have nothing in common
_STATEMENT = re.compile(
    r"(?:^|[:;])[ \t]*((?:from[ \t]+[\w.]+[ \t]+import\b[ \t]*(?:\([^)]*\)|(?:[^\n\\;]|\\\n)*))"
    r"|import\b(?:[^\n\\;]|\\\n)*)",
    re.MULTILINE,
)


class Import(NamedTuple):
    """One name that a source imports: `from module import name as alias`, or `import module`."""

    module: str
    name: str | None
    alias: str
    level: int  # dots before the module


class Source(NamedTuple):
    """A file of a module: its address among the sources, its content's hash, its imports."""

    path: Path
    place: str  # from the folder that is on sys.path, with slashes
    digest: str
    imports: tuple[Import, ...]
    discovers: bool  # whether it imports all modules of its folder


class Root(NamedTuple):
    """Where the modules lie that are followed from one on: a folder, or one package of it."""

    folder: Path
    package: str | None


def closure(modules: Iterable[str]) -> dict[str, str]:
    """Sources that these modules depend on, themselves among them: place -> SHA-256.

    Followed are imports of mipp, and of whatever lies in the folder that a module comes from; an
    installed package is followed within itself.
    """
    found: dict[str, Source] = {}
    for module in modules:
        found |= _reached(module)
    return {source.place: source.digest for _, source in sorted(found.items())}


def files_of(modules: Iterable[str]) -> list[Path]:
    """The files of the closure that are no part of an installed package."""
    found = {source.path for module in modules for source in _reached(module).values()}
    return sorted(path for path in found if not set(path.parts) & set(INSTALLED))


def code_hash(modules: tuple[str, ...]) -> str:
    """SHA-256 of all sources that these modules depend on.

    Of a module that has none, such as a notebook, it is another one every time.
    """
    unseen = [module for module in modules if module not in _reached(module)]
    return hashlib.sha256(uuid4().bytes).hexdigest() if unseen else _hash(modules)


def file_hash(module: str) -> str:
    """SHA-256 of a module of mipp alone."""
    return _reached(module)[module].digest


@cache
def _hash(modules: tuple[str, ...]) -> str:
    text = "\n".join(f"{place} {digest}" for place, digest in sorted(closure(modules).items()))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _reached(module: str) -> dict[str, Source]:
    """Sources by module name, from one module on."""
    root = _root(module)
    found: dict[str, Source] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        source = _source(name, root) if name not in found else None
        if source is not None:
            found[name] = source
            waiting += _imported(name, source, root)
            waiting += _discovered(name, root)
    return found


def _discovered(module: str, root: Root) -> Iterator[str]:
    """The module's package and all in it, if the package imports them by itself."""
    package = module.rpartition(".")[0]
    source = _source(package, root) if package else None
    if source is not None and source.discovers:
        yield package
        yield from (f"{package}.{path.stem}" for path in source.path.parent.glob("[!_]*.py"))


def _imported(module: str, source: Source, root: Root) -> Iterator[str]:
    """Modules that a source takes names from, each where the name is defined."""
    for one in source.imports:
        base = _absolute(module, source.path, one)
        if one.name is not None:
            yield _defining(base, one.name, root)
        elif base != PACKAGE.name:  # of `import mipp` the names that are used are not known
            yield base


def _absolute(module: str, path: Path, one: Import) -> str:
    if not one.level:
        return one.module
    parts = module.split(".")
    kept = len(parts) - one.level + (path.name == "__init__.py")
    return ".".join([*parts[:kept], *([one.module] if one.module else [])])


@cache
def _defining(package: str, name: str, root: Root) -> str:
    """The module that `from package import name` gets its name from."""
    source = _source(package, root)
    if source is None or source.path.name != "__init__.py":
        inner = f"{package}.{name}"  # of a folder without __init__
        return inner if source is None and _source(inner, root) else package
    for one in source.imports:
        base = _absolute(package, source.path, one)
        if one.alias == name and one.name is not None and base != package:
            return _defining(base, one.name, root)
    inner = f"{package}.{name}"
    return inner if _source(inner, root) else package


def _root(module: str) -> Root:
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None and top not in (PACKAGE.name, "__main__"):
        spec = importlib.util.find_spec(module)
        file = spec.origin if spec else None
    if top == PACKAGE.name or file is None or not file.endswith(".py"):
        return Root(PACKAGE.parent, PACKAGE.name)
    path = Path(file).resolve()
    folder = path.parents[module.count(".") + (path.name == "__init__.py")]
    installed = folder.name in INSTALLED or folder == STDLIB
    return Root(folder, top if installed else None)


@cache
def _source(module: str, root: Root) -> Source | None:
    """A module's file, None for other people's."""
    top, *rest = module.split(".")
    if top == PACKAGE.name:
        folder = PACKAGE.parent
    elif root.package in (None, top):
        folder = root.folder
    else:
        return None
    if top == "__main__":
        path = Path(getattr(sys.modules[top], "__file__", None) or "")
        return _read(path, path.name) if path.is_file() else None
    inside = folder.joinpath(top, *rest)
    for path in (inside / "__init__.py", inside.with_name(f"{inside.name}.py")):
        if path.is_file():
            return _read(path, path.relative_to(folder).as_posix())
    return None


@cache
def _read(path: Path, place: str) -> Source:
    content = path.read_bytes()
    discovers = path.name == "__init__.py" and b"iter_modules(__path__)" in content
    digest = hashlib.sha256(content).hexdigest()
    return Source(path, place, digest, tuple(_imports(content)), discovers)


def _imports(content: bytes) -> Iterator[Import]:
    """Every import of a source, wherever it stands.

    Statements are found by their first word and parsed alone, twenty times as fast as the file;
    where that finds no statement, prose or an odd comment, the file is parsed.
    """
    text = content.decode("utf-8", "replace")
    try:
        found: list[ast.AST] = []
        for match in _STATEMENT.finditer(text):
            found += ast.parse(match.group(1)).body
    except SyntaxError:
        found = list(ast.walk(ast.parse(content)))
    for node in found:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, alias.asname or alias.name, 0)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(node.module or "", alias.name, alias.asname or alias.name, node.level)
