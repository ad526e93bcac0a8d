"""docs/models.md: how many networks are pruned right, which are not, and why, and a row of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.shared.tables import markdown
from benchmarks.validation.networks import networks

PASS = "pass"
CHECKS = ("forward", "budget", "identity", "train", "checkpoint")
COLUMNS = (
    *("network", "result", "export", "least", "MACs kept", "left whole"),
    *("seconds", "MiB", "Torch-Pruning", "its share"),
)
LEAST = 0.1
SOURCES = ("torchvision", "timm", "transformers", "written")

Row = Mapping[str, Any]
Rows = Mapping[str, Row]


def verdict(row: Row) -> str:
    """`pass`, or what did not work."""
    if "refused" in row:
        return f"refused: {row['refused'].splitlines()[0]}"
    wrong = [check for check in CHECKS if row.get(check) is not True]
    if not wrong:
        return PASS
    why = f" ({row['failed']})" if "failed" in row else ""
    return f"fails: {', '.join(wrong)}{why}"


def export_verdict(row: Row) -> str:
    """Whether the program computes the same."""
    if "export" not in row:
        return "not tried"
    return "same" if row["export"] else "no: " + row["export_error"].splitlines()[-1]


def rival_verdict(row: Row) -> str:
    """The same of Torch-Pruning's network."""
    rival = row.get("rival")
    if rival is None:
        return "not measured"
    if "raised" in rival:
        kind = rival["raised"].split(":")[0]  # ours is that of calling the network it left
        others = {"ModelError": "does not run", "TimeoutError": "not done in 30 s"}
        return others.get(kind, f"raises {kind}")
    if rival["right"]:
        return "right"
    wrong = [check for check in ("forward", "identity", "train") if rival[check] is not True]
    return "fails: " + ", ".join(wrong) if wrong else "misses the budget"


def only_the_rival(rows: Rows) -> list[str]:
    """Networks that Torch-Pruning prunes right and this project does not."""
    return [n for n, row in rows.items() if verdict(row) != PASS and rival_verdict(row) == "right"]


def table(rows: Rows) -> str:
    """Markdown, a network per row."""
    lines = [
        [
            name,
            verdict(row),
            export_verdict(row),
            _digits(row.get("least")),
            _digits(row.get("share")),
            _digits(row.get("whole")),
            _digits(row.get("seconds"), 1),
            _digits(row.get("mib"), 0),
            rival_verdict(row),
            _digits((row.get("rival") or {}).get("share")),
        ]
        for name, row in sorted(rows.items())
    ]
    return "\n".join(markdown(COLUMNS, lines))


def _digits(number: float | None, digits: int = 3) -> str | None:
    return None if number is None else f"{number:.{digits}f}"


def counts(rows: Rows) -> str:
    """How many of each source pass, and how small they get."""
    lines = []
    for source in SOURCES:
        own = [row for name, row in rows.items() if name.startswith(f"{source}/")]
        passed = sum(verdict(row) == PASS for row in own)
        right = sum(rival_verdict(row) == "right" for row in own)
        tried = sum("export" in row for row in own)
        same = sum(row.get("export", False) for row in own)
        lines.append([source, len(own), passed, right, same, tried])
    total = [sum(line[i] for line in lines) for i in range(1, 6)]
    header = (
        *("source", "networks", "mipp passes", "Torch-Pruning is right"),
        *("exported", "of those tried"),
    )
    return "\n".join(markdown(header, [*lines, ["all", *total]]))


def smallness(rows: Rows) -> str:
    """The share of networks that can get as small as they should."""
    least = {name: row["least"] for name, row in rows.items() if "least" in row}
    over = [f"`{name}` {value:.2f}" for name, value in sorted(least.items()) if value > LEAST]
    share = 100 * (1 - len(over) / max(1, len(least)))
    named = f": all but {', '.join(over)}" if over else ""
    return f"The least share of MACs is at most {LEAST} for {share:.0f} % of them{named}."


def reasons(rows: Rows) -> str:
    """Why layers are left whole, by category, with the networks where it is a share that counts."""
    where: dict[str, list[str]] = {}
    for name, row in sorted(rows.items()):
        for category, share in row.get("reasons", {}).items():
            if share >= 0.005:
                where.setdefault(category, []).append(f"`{name}` {share:.2f}")
    order = Counter({category: len(named) for category, named in where.items()})
    lines = [[c, n, ", ".join(where[c])] for c, n in order.most_common()]
    return "\n".join(markdown(("reason", "networks", "share of MACs in such layers"), lines))


def failures(rows: Rows) -> str:
    """The networks that do not pass, each with what did not."""
    found = {name: verdict(row) for name, row in sorted(rows.items())}
    lines = [f"- `{name}`: {why}" for name, why in found.items() if why != PASS]
    return "\n".join(["Those that do not pass:", "", *lines]) if lines else "All of them pass."


def made(rows: Rows) -> str:
    """How the networks differ from those of that name."""
    lines = [
        [name, network.made]
        for name, network in sorted(networks().items())
        if network.made and name in rows
    ]
    return "\n".join(markdown(("network", "built with"), lines))


def page(rows: Rows) -> str:
    """docs/models.md."""
    versions = sorted({row["torch"] for row in rows.values()})
    worse = only_the_rival(rows)
    named = f" ({', '.join(f'`{name}`' for name in worse)})" if worse else ""
    return f"""# Networks that can be pruned

{counts(rows)}

Networks that Torch-Pruning prunes right and mipp does not: {len(worse)}{named}.
{smallness(rows)}

Each was built at random weights (batch-norm statistics, norms and biases drawn, so that no mistake
hides behind zeros and ones), small: narrower or with fewer blocks than the published one, as the
last table says (of a network of which it says no width, that is the published one), because it is
the structure that is tested. It was pruned on 16 random inputs by what `mipp.prune(model, inputs)`
does, with the default method, budget (`macs:0.5`) and repair.

A pass means: the pruned network runs; its share of MACs, counted by torch's `FlopCounterMode`, is
within 0.02 of the budget; in double precision (single where forward makes such tensors itself) and
before the repair it computes what the dense network computes with the dropped channels zero where
they are read and no norm counting them in its statistics; in train mode its parameters get finite
gradients; and saved and loaded it is the same bit by bit. *export* says whether what
`mipp.export_network` wrote computes the same when it is read back; it takes longest and was not
tried for all.

*least* is the share of MACs with one channel in every group (it is larger in a narrow network than
in the published one), *left whole* the share of MACs in layers whose outputs cannot be cut, those
that make the network's outputs not counted. Seconds and memory above that of the network before
are those of one thread on a busy machine. Random weights say nothing about accuracy.

Torch-Pruning 1.6.1 had the same network: magnitude importance, the pruning ratio that comes nearest
to half of the operations, layers of the outputs left alone, attention heads named, whole heads or
thinner ones, whichever was right, and the attributes that forward lays them out by brought up to
date; for either it had 30 s of one core. It is right where its network runs, computes what
zeroing computes (within 1e-6), trains, and comes within 0.05 of the budget.

{failures(rows)}

## Layers that are left whole

{reasons(rows)}

## Every network

{table(rows)}

## How they were made

{made(rows)}

Made by `python -m benchmarks.validation.zoo --write` (torch {", ".join(versions)}).
"""
