"""Networks that people bring, pruned with all defaults to half of their MACs, and what it is worth.

Each runs in a process of its own, at random weights, on random images: what is measured is whether
pruning works at all, not accuracy. Beside it stands Torch-Pruning on the same network, to the same
share. Results are kept per network as they come, so that with --write a run that is cut short goes
on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.command import add_again, circumstances, fitting, parse, parser, versions
from benchmarks.shared.forked import measured
from benchmarks.shared.kept import RESULTS, read_json, write_json
from benchmarks.validation import zoo_page
from benchmarks.validation.networks import networks
from mipp.progress import track

PAGE, FILE = Path("docs/models.md"), RESULTS / "zoo.json"
PRELOAD = ("benchmarks.validation.zoo_alone",)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("validation.zoo", __doc__ or "", PAGE)
    options.set_defaults(threads=1)
    add_again(options)
    options.add_argument(
        "--models", nargs="+", default=["*"], help="names, or patterns such as timm/vit*"
    )
    options.add_argument("--failed", action="store_true", help="measure anew those that fail")
    options.add_argument("--timeout", type=float, default=300.0, help="seconds per network")
    options.add_argument("--no-export", action="store_true", help="leave out what takes longest")
    options.add_argument("--alone", action="store_true", help="in this process, with tracebacks")
    return parse(options, given)


def wanted(options: argparse.Namespace, kept: dict[str, Any]) -> Iterator[str]:
    """Names that are to be measured."""
    for name in fitting("--models", options.models, list(networks())):
        fails = name in kept and zoo_page.verdict(kept[name]) != zoo_page.PASS
        if name not in kept or options.again or (options.failed and fails):
            yield name


def main(given: Sequence[str] | None = None) -> None:
    from benchmarks.validation.zoo_alone import measure

    options = arguments(given)
    torch.set_num_threads(options.threads)
    kept: dict[str, Any] = read_json(FILE) if options.write and FILE.exists() else {}
    kept = {name: row for name, row in kept.items() if name in networks()}
    names = list(wanted(options, kept))
    given_all = (options.threads, not options.no_export)
    for name in track(names, total=len(names), label="networks"):
        if options.alone:
            row = {key: value for part in measure(name, *given_all) for key, value in part.items()}
        else:
            row = measured(measure, name, *given_all, timeout=options.timeout, preload=PRELOAD)
        kept[name] = row | {"torch": versions()["torch"]}
        print(name, zoo_page.verdict(row), f"{row.get('wall', 0):.0f} s", flush=True)
        if options.write:
            write_json(FILE, dict(sorted(kept.items())))
    print(zoo_page.table({name: kept[name] for name in names}))
    circumstances(options)
    if options.write:
        write_page()


def write_page() -> None:
    """The page of all networks that are kept."""
    PAGE.write_text(zoo_page.page(read_json(FILE)))


if __name__ == "__main__":
    main()
