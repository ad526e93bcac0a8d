"""What of a network can be pruned, how far, and why the rest stays whole, as a page or tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, NamedTuple

from mipp.graph.whole import WholePart, folded, pattern_of, percent
from mipp.inputs import Shape

KINDS = {"macs": "MACs", "params": "parameters", "units": "units"}
ROWS = 10  # of groups
PARTS = 3  # kinds of reasons
SPACE = 21 * " "
WIDE = 44  # letters of a name


@dataclass(frozen=True)
class GroupShare:
    """Channels that can only be removed together, and what goes with them.

    `least` of `width` units stay under the limits. `macs` and `params` are the shares of the
    dense network's, 0 to 1, that go when this group alone keeps no more; groups share layers, so
    that they do not add up.
    """

    name: str
    width: int
    least: int
    macs: float
    params: float


@dataclass(frozen=True)
class HeadsShare:
    """Attentions whose heads `narrow_heads` makes narrower, as far as the data tell.

    `sizes` of the heads by the attention's name, of which at least `least` stay. `macs` and
    `params` are the shares of the dense network's, 0 to 1, that go where all are so narrow.
    """

    sizes: Mapping[str, int]
    least: int
    macs: float
    params: float


@dataclass(frozen=True)
class Inspection:
    """What of a network can be pruned. Prints as a page of less than 40 lines.

    Parameters
    ----------
    macs, params : of the dense network, for one input of `shape`.
    least : kind -> share of the dense network's that is left at the limits, 0 to 1.
    groups : channels that can be pruned, with what goes with them.
    heads : attentions whose heads can become narrower, which is in no other share here.
    whole : what stays whole by the kind of reason, with its share and what to do about it.
    fixed : share of the multiply-accumulates in operators, beside the layers, that nothing shrinks.
    no_fewer_outputs, no_fewer_inputs : layers with weights that keep all features of that side.
    unreached : modules with parameters that no call ran, and why.

    Example
    -------
    >>> import mipp, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> found = mipp.inspect(net, torch.randn(32, 4), min_channels=3)
    >>> found.macs, found.least["macs"], found.groups[0].least
    (36, 0.5, 3)
    """

    network: str
    shape: Shape
    macs: int
    params: int
    least: Mapping[str, float]
    groups: tuple[GroupShare, ...]
    whole: tuple[WholePart, ...]
    heads: HeadsShare | None
    fixed: float
    no_fewer_outputs: tuple[str, ...]
    no_fewer_inputs: tuple[str, ...]
    unreached: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """All of it in values that JSON knows."""
        return asdict(self)

    def __str__(self) -> str:
        return inspection_text(self)

    def _repr_html_(self) -> str:
        return inspection_html(self)


class Row(NamedTuple):
    """Groups whose names differ in their numbers alone, of one width."""

    name: str
    groups: int
    width: int
    least: int
    macs: float
    params: float


def inspection_text(found: Inspection) -> str:
    """All of it in less than 40 lines."""
    return "\n".join([*_head(found), *_groups(found), *_whole(found), *_notes(found)])


def rows_of(groups: Iterable[GroupShare]) -> list[Row]:
    """Groups in the order of their largest share, alike ones as one row with what goes with all."""
    rows: dict[tuple[str, int, int], list[GroupShare]] = {}
    for group in groups:
        rows.setdefault((pattern_of(group.name), group.width, group.least), []).append(group)
    folded_rows = [
        Row(
            same[0].name if len(same) == 1 else name,
            len(same),
            width,
            least,
            sum(group.macs for group in same),
            sum(group.params for group in same),
        )
        for (name, width, least), same in rows.items()
    ]
    return sorted(folded_rows, key=lambda row: -row.macs)


def _head(found: Inspection) -> list[str]:
    least = ", ".join(f"{percent(found.least[kind])} of the {word}" for kind, word in KINDS.items())
    return [
        f"{found.network}, input {_shape(found.shape)}: {found.macs:,} MACs, "
        f"{found.params:,} parameters",
        f"at least stay: {least}" if found.groups else "nothing can be pruned",
    ]


def _shape(shape: object) -> str:
    return str(shape).replace("'", "")


def _groups(found: Inspection) -> list[str]:
    rows = rows_of(found.groups)
    if not rows:
        return []
    names = [_short(f"{row.name}{f' ({row.groups})' if row.groups > 1 else ''}") for row in rows]
    longest = max(map(len, names[:ROWS]))
    listed = [
        f"  {name:<{longest}}  {row.width:>6}  {row.least:>6}  {percent(row.macs):>7}  "
        f"{percent(row.params):>7}"
        for name, row in zip(names[:ROWS], rows, strict=False)
    ]
    more = sum(row.groups for row in rows[ROWS:])
    return [
        "",
        f"{plural(len(found.groups), 'group')} of channels; what goes with each, alike ones added",
        f"  {'':<{longest}}  {'units':>6}  {'least':>6}  {'MACs':>7}  {'params':>7}",
        *listed,
        *([f"  and {more} more, of smaller shares"] if more else []),
    ]


def _whole(found: Inspection) -> list[str]:
    if not found.whole:
        return []
    lines = ["", "Stay whole: layers with their share of the MACs, and what is left of it at least"]
    for part in found.whole[:PARTS]:
        lines += [f"{_shares([part])}{part.layers}", f"{SPACE}{part.what}"]
        if part.category != "output":
            lines.append(f"{SPACE}{part.example}")
        lines.append(f"{SPACE}-> {part.advice}")
    rest = found.whole[PARTS:]
    if rest:
        kinds = plural(len(rest), "more reason")
        lines.append(f"{_shares(rest)}for {kinds}: see .whole, or --json")
    return lines


def _shares(parts: Sequence[WholePart]) -> str:
    macs, least = (
        percent(sum(shares["macs"] for shares in listed))
        for listed in ([part.shares for part in parts], [part.least for part in parts])
    )
    return f"  {macs:>8} {least:>8}  "


def plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _notes(found: Inspection) -> list[str]:
    lines = []
    if found.fixed:
        lines.append(f"{percent(found.fixed)} of the MACs are in operators that nothing shrinks")
    sides = {"outputs": found.no_fewer_outputs, "inputs": found.no_fewer_inputs}
    lines += [
        f"Layers with weights that cannot lose {side}: {folded(names)}"
        for side, names in sides.items()
        if names
    ]
    if found.heads:
        lines.append(
            f"Heads that data may make narrower, by up to {percent(found.heads.macs)} of the MACs: "
            f"{folded(found.heads.sizes)}"
        )
    if found.unreached:
        lines.append(f"No call reached: {folded(found.unreached)}")
        lines.append(f"  {next(iter(found.unreached.values()))}")
        lines.append("  -> pass calls=[...] with the call that runs them")
    return ["", *lines] if lines else []


def inspection_html(found: Inspection) -> str:
    """The same as tables, of all groups and reasons."""
    head = "".join(f"<p>{escape(line)}</p>" for line in _head(found))
    groups = _table(
        ("channels", "groups", "units", "least", "MACs", "params"),
        [
            (row.name, row.groups, row.width, row.least, percent(row.macs), percent(row.params))
            for row in rows_of(found.groups)
        ],
    )
    whole = _table(
        ("stays whole", "MACs", "because", "what to do"),
        [
            (part.layers, percent(part.shares["macs"]), f"{part.what}: {why}", part.advice)
            for part in found.whole
            for why in dict.fromkeys(part.reasons.values())
        ],
    )
    notes = "".join(f"<p>{escape(line)}</p>" for line in _notes(found) if line)
    return f"<div>{head}{groups}{whole}{notes}</div>"


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(name: str) -> str:
    return name if len(name) <= WIDE else f"...{name[3 - WIDE :]}"
