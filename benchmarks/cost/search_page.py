"""docs/search.md: what a search costs on a CPU, and how that grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.shared.command import where
from benchmarks.shared.kept import RESULTS, read_json
from benchmarks.shared.tables import brief, markdown_of, two_digits

PAGE = Path("docs/search.md")
SCALING, PLANS = RESULTS / "scaling.json", RESULTS / "plans.json"
REAL_SIZE = RESULTS / "real_size.json"
TARGETS = {"resnet20": 2.5, "vgg16": 5.0}  # forward passes that a search may cost
CIRCUMSTANCES = ("command", "versions", "threads", "cores", "load_average")
HEAD = """\
# What a search costs on a CPU

Written by `python -m benchmarks.cost.search --write`, `python -m benchmarks.cost.plans --write`,
`python -m benchmarks.cost.real_size --write` and `python -m benchmarks.cost.scaling --write`; on a
GPU see [RESULTS.md](../benchmarks/RESULTS.md).

*search* is extract (a forward pass, its rows in the store and their moments), estimate and choose,
as in the pipeline; *search, no store* is measure (a forward pass, the moments of its rows and their
estimates) and choose, as in `mipp.prune`;
*taylor* is Torch-Pruning's Taylor criterion on the same images, its backward passes and its scores.
Tracing is in neither. The rival's pass is that of the fastest of its criteria that look at images;
those that look at weights alone take no time to speak of. All steps are timed in one process, one
after the other, again and again; times are medians, ratios medians of those inside of a repetition.
Machines differ in how their products in float64, of which estimate and choose consist, compare to
a convolution in float32, and so do the hours of one machine: expect a tenth more or less.
"""


def measured_path(model: str) -> Path:
    """Where the measurement of one network is kept."""
    return RESULTS / f"search-{model}.json"


def verdict(model: str, forwards: float, rivals: float) -> str:
    """What was measured beside what was aimed at, in words."""
    against_rival = f"{rivals:.2f} times Torch-Pruning's Taylor pass (at most 1 aimed at: "
    against_rival += "met)" if rivals <= 1 else "missed)"
    if model not in TARGETS:
        return f"{forwards:.2f} forward passes, {against_rival}"
    met = "met" if forwards <= TARGETS[model] else "missed"
    return (
        f"{forwards:.2f} forward passes (at most {TARGETS[model]:g} aimed at: {met}), "
        f"{against_rival}"
    )


def write_page() -> None:
    """The page of all measurements that are kept."""
    found = [read_json(path) for path in sorted(RESULTS.glob("search-*.json"))]
    others = [
        section(read_json(file))
        for file, section in ((REAL_SIZE, _real_size), (PLANS, _plans), (SCALING, _growth))
        if file.exists()
    ]
    PAGE.write_text("\n".join([HEAD, *map(_search, found), *others]))


def _search(results: Mapping[str, Any]) -> str:
    forwards, rivals = results["search_over_forward"][0], results["search_over_taylor"][0]
    lines = [
        f"## {results['model']}",
        "",
        f"`{results['command']}`: {results['images']:,} images, {len(results['runs'])} "
        f"repetitions, {results['weights']}. {where(results)}",
        "",
        *markdown_of(results["steps"], brief),
        "",
        f"A search costs {verdict(results['model'], forwards, rivals)}.",
        "",
    ]
    return "\n".join(lines)


def _real_size(results: Mapping[str, Any]) -> str:
    rows = by_network(results["rows"])
    shown = [{name: row[name] for name in row if name not in CIRCUMSTANCES} for row in rows]
    lines = [
        "## Real size",
        "",
        "ImageNet networks at 224 pixels with everything at its default, random weights and images "
        "that are drawn anew for every pass. Steps are in forward passes over the same images in "
        "the same process, by seconds of the CPU, since the machine had other work; *wall* is by "
        "the clock. *GB* is the peak of the process above that of the bare forward pass, up to the "
        "plan and to the end. The search reads all images; a layer is refitted to as many of the "
        "first as may wait in 768 MiB, at most about 260 with these networks. Rows of transformers "
        "at 1,024 images are older than narrower heads, for which some two dozen are read again.",
        "",
        *markdown_of(shown, brief),
        "",
        *(f"- {row['network']}: `{row['command']}`. {where(row)}" for row in rows),
        "",
    ]
    return "\n".join(lines)


def by_network(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of ImageNet networks, in the order in which pages show them."""
    return sorted(rows, key=lambda row: (row["network"], row["images"]))


def _plans(results: Mapping[str, Any]) -> str:
    budgets = results["budgets"]
    lines = [
        "## Several budgets",
        "",
        f"`{results['command']}`: {results['model']}, {results['images']:,} images, "
        f"{', '.join(f'`{budget}`' for budget in budgets)}, {results['repetitions']} repetitions. "
        "*one Pruner* ranks once, plans and cuts for each budget; *calls* are as many of "
        "`mipp.prune`; without repair, which is the same work in either. Both give the same "
        "networks bit for bit. " + where(results),
        "",
        *markdown_of(results["steps"], brief),
        "",
        f"One `Pruner` takes {results['share']:.2f} times the seconds of {len(budgets)} calls.",
        "",
    ]
    return "\n".join(lines)


def _growth(results: Mapping[str, Any]) -> str:
    over = {"width": results["over_width"], "rows": results["over_rows"]}
    lines = [
        "## Growth",
        "",
        f"`{results['command']}`. One layer pair of synthetic rows, 3x3 kernels, as many targets "
        "as channels; each size in processes of its own. *sums*: rows into moments, in chunks; "
        "*prepare*: one factorisation; *walk*: half of the channels go, best first, or visited "
        "once in MI order; seconds. *MiB*: above the process before. " + where(results),
        "",
        *markdown_of(results["wide"], brief),
        "",
        *markdown_of(results["long"], brief),
        "",
        "Exponents of a power law through these points; after the sums nothing depends on the "
        "rows:",
        "",
        *markdown_of([{"over the": name, **steps} for name, steps in over.items()], two_digits),
        "",
    ]
    return "\n".join(lines)
