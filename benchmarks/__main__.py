"""`python -m benchmarks`: what there is; `python -m benchmarks pages`: every page, made anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from benchmarks.catalogue import BENCHMARKS, PAGES
from mipp.errors import did_you_mean
from mipp.process.exit_codes import exit_code
from mipp.progress import track

EPILOG = """\
python -m benchmarks.NAME          measures and prints; times are those of two cores
python -m benchmarks.NAME --write  keeps it in benchmarks/results, too, and writes the page
python -m benchmarks pages [PAGE]  makes pages from all that is kept, and measures nothing
"""


def main(given: Sequence[str] | None = None) -> int:
    """List the benchmarks, or make pages; returns the exit code."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Lists the benchmarks, or makes their pages.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = options.add_subparsers(dest="command")
    pages = commands.add_parser("pages", help="make pages from what is kept; measures nothing")
    pages.add_argument("names", nargs="*", metavar="PAGE", help="such as search; all without")
    found = options.parse_args(given)
    if found.command is None:
        print(f"{overview()}\n\n{EPILOG}", end="")
        return 0
    return exit_code(lambda: make_pages(found.names, pages))


def overview() -> str:
    """A line for each benchmark."""
    width = max(len(benchmark.name) for benchmark in BENCHMARKS)
    return "\n".join(
        f"{b.name:{width}}  {b.takes:>12}  {b.measures}" + (f" -> {b.page}" if b.page else "")
        for b in BENCHMARKS
    )


def make_pages(names: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Make the pages of these names."""
    modules = {page.stem: module for page, module in PAGES.items()}
    for name in names:
        if name not in modules:
            parser.error(f"unknown page {name!r}; {did_you_mean(name, modules)}")
    wanted = names or list(modules)
    for name in track(wanted, total=len(wanted), label="pages"):
        import_module(f"benchmarks.{modules[name]}").write_page()


if __name__ == "__main__":
    sys.exit(main())
