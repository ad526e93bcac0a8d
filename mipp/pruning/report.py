"""What was removed from a network and what was not, as text, values, a table or a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from mipp.distill import Distilled
from mipp.errors import ConfigError
from mipp.graph.reasons import CATEGORIES, Reason
from mipp.graph.whole import WholePart, folded, percent, whole_parts
from mipp.inputs import Shape
from mipp.latency import TimeReport
from mipp.layers.weights import made_plain
from mipp.metrics import count_macs, count_params
from mipp.page import html_fragment, html_page
from mipp.page.document import (
    Block,
    Document,
    Fact,
    Facts,
    Section,
    Table,
    Text,
    Width,
    Widths,
    code,
)
from mipp.pruning.drop import Search
from mipp.pruning.plain_values import plain
from mipp.pruning.plan import Plan

if TYPE_CHECKING:
    from pandas import DataFrame

FEW = 32  # calibration inputs, below which a report says so


@dataclass(frozen=True)
class GroupReport:
    """One channel group: its width before and after, and its information in nats."""

    name: str
    width: int
    kept: int
    information: float | None  # None for a rival criterion


@dataclass(frozen=True)
class PruneReport:
    """What was removed, what was left whole and why, and what it took.

    Prints as text, shows as tables in a notebook.

    Parameters
    ----------
    whole : what stays whole by the kind of reason, with its shares of the dense network.

    Example
    -------
    >>> import mipp, torch
    >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    >>> report = mipp.prune(net, torch.randn(64, 4), "ratio:0.5").report
    >>> report.params_dense, report.params
    (44, 23)
    >>> report.to_dict()["groups"][0]["kept"]
    3
    """

    groups: tuple[GroupReport, ...]
    left_whole: Mapping[str, Reason]
    near_collapsed: tuple[str, ...]
    params: int
    params_dense: int
    macs: int
    macs_dense: int
    seconds: float
    unreached: Mapping[str, str] = field(default_factory=dict)
    latency: TimeReport | None = None  # where the budget or its price is time
    unfitted: Mapping[str, str] = field(default_factory=dict)  # layer -> why a refit left it
    distilled: Distilled | None = None  # where that was asked for
    search: Search | None = None  # where the budget is how far a metric may fall
    inputs: int = 0  # of the calibration
    whole: tuple[WholePart, ...] = ()
    made_plain: tuple[str, ...] = ()  # weights that were computed, as under a spectral norm
    heads: Mapping[str, int] = field(default_factory=dict)  # attention -> size of narrower heads
    phases: Mapping[str, float] = field(default_factory=dict, compare=False)  # of `seconds`

    def to_dict(self) -> dict[str, Any]:
        """All of it in values that JSON knows; layers that stay whole with the kind of reason."""
        found: dict[str, Any] = plain(self)
        return found

    def to_dataframe(self) -> DataFrame:
        """One row per group: name, width, kept, the share that stays, information in nats.

        Raises
        ------
        ConfigError : pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise ConfigError(
                "to_dataframe() needs pandas.\nExpected it installed, got none; `pip install "
                "pandas`, or take to_dict()."
            ) from error
        rows = [{**plain(group), "share": group.kept / group.width} for group in self.groups]
        return DataFrame(rows, columns=["name", "width", "kept", "share", "information"])

    def to_html(self) -> str:
        """One page that needs nothing else, for a browser."""
        return html_page(_document(self), {})

    def _repr_html_(self) -> str:
        return html_fragment(_document(self))

    def __str__(self) -> str:
        lines = [f"{_sizes(self)}, {self.seconds:.1f} s", *_circumstances(self)]
        lines += [f"  {g.name}: {g.width} -> {g.kept}" for g in self.groups]
        lines += [f"  {line}" for line in (*_whole_lines(self.left_whole), *_remarks(self))]
        return "\n".join(lines)


def _sizes(report: PruneReport) -> str:
    return (
        f"params {report.params_dense:,} -> {report.params:,} "
        f"({100 * report.params / report.params_dense:.1f} %), "
        f"MACs {report.macs_dense:,} -> {report.macs:,} "
        f"({100 * report.macs / report.macs_dense:.1f} %)"
    )


def _circumstances(report: PruneReport) -> Iterator[str]:
    """What it took, the time that was measured, and whether the inputs were too few."""
    if report.phases:
        yield ", ".join(f"{name} {spent:.1f} s" for name, spent in report.phases.items())
    best = report.latency.best() if report.latency else None
    if report.latency and best:
        where = "batch {batch} on {device}".format(**report.latency.circumstances)
        yield f"latency {100 * best.measured:.1f} % of the dense network's, {where}"
    if 0 < report.inputs < FEW:
        counted = "1 input" if report.inputs == 1 else f"{report.inputs} inputs"
        yield f"  measured on {counted}, too few to tell units apart: give some hundred"


def _remarks(report: PruneReport) -> Iterator[str]:
    """What of the network was not done, and how its repair went."""
    yield from (f"{names} left as it is: {why}" for names, why in _by_reason(report.unreached))
    if report.unreached:
        yield "whoever calls these needs calls=, with the call that runs them"
    for name in report.near_collapsed:
        yield f"{name}: would have collapsed, kept at its floor"
    yield from (f"{names}: {why}" for names, why in _by_reason(report.unfitted))
    for size in sorted(set(report.heads.values())):
        names = folded(name for name, own in report.heads.items() if own == size)
        yield f"{names}: heads of {size} dimensions, which tell what wider ones told"
    if report.search:
        yield from str(report.search).splitlines()
    if report.distilled:
        yield str(report.distilled)
    if report.made_plain:
        names = folded(report.made_plain)
        yield f"{names}: plain now; a spectral norm or the like computed it before"


def _whole_lines(reasons: Mapping[str, Reason]) -> Iterator[str]:
    """Layers by the kind of reason, with that of one of them where they are several."""
    for category, meaning in CATEGORIES.items():
        layers = [name for name, reason in reasons.items() if reason.category == category]
        if len(layers) == 1:
            yield f"{layers[0]} left whole: {reasons[layers[0]]}"
        elif layers:
            yield f"{folded(layers)} left whole: {meaning.what}, such as"
            yield f"  {layers[0]}: {reasons[layers[0]]}"


def _by_reason(reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Names in a few words, with the reason that they share."""
    for why in dict.fromkeys(reasons.values()):
        yield folded(name for name, other in reasons.items() if other == why), why


def _document(report: PruneReport) -> Document:
    """The report as a page: what was gained, the widths, and what else its text says."""
    notes = [line.strip() for line in (*_circumstances(report), *_remarks(report))]
    blocks: list[tuple[str, list[Block]]] = [
        ("Result", [Facts(_facts(report))]),
        ("Groups", [_widths(report)]),
        ("Left whole", [_whole_table(report)] if report.whole else []),
        ("Notes", [Text(line) for line in notes]),
    ]
    return Document(
        title="Pruned network",
        done=f"Pruned in {report.seconds:.1f} s.",
        headline=f"{percent(report.macs / max(1, report.macs_dense))} of the multiply-accumulates "
        f"and {percent(report.params / max(1, report.params_dense))} of the parameters stay.",
        sections=[Section(title, found) for title, found in blocks if found],
    )


def _facts(report: PruneReport) -> list[Fact]:
    best = report.latency.best() if report.latency else None
    return [
        _kept("parameters", report.params, report.params_dense),
        _kept("MACs", report.macs, report.macs_dense),
        _kept("units", sum(g.kept for g in report.groups), sum(g.width for g in report.groups)),
        *([Fact("time kept", percent(best.measured), "as measured")] if best else []),
    ]


def _kept(name: str, after: int, before: int) -> Fact:
    return Fact(f"{name} kept", percent(after / max(1, before)), f"{before:,} → {after:,}")


def _widths(report: PruneReport) -> Widths:
    rows = [
        Width(code(g.name), g.width, g.kept, [f"{100 * g.kept / g.width:.1f}", *_nats(g)])
        for g in reversed(report.groups)  # they are visited from the outputs
    ]
    told = any(_nats(group) for group in report.groups)
    return Widths(rows, ("kept %", *(["nats"] if told else [])), "From the inputs to the outputs.")


def _nats(group: GroupReport) -> list[str]:
    return [] if group.information is None else [f"{group.information:.3g}"]


def _whole_table(report: PruneReport) -> Table:
    rows = [
        (part.layers, percent(part.shares["macs"]), percent(part.shares["params"]), part.what)
        for part in report.whole
    ]
    return Table(("layers", "MACs", "params", "because"), rows, words=("because",))


def report_on(
    plan: Plan, model: nn.Module, dense: nn.Module, shape: Shape, seconds: float
) -> PruneReport:
    """What became of a network under a plan.

    Parameters
    ----------
    shape : of one input, without the batch axis.
    """
    selection, information = plan.selection, plan.information
    return PruneReport(
        groups=tuple(
            GroupReport(name, selection.width[name], len(kept), information.get(name))
            for name, kept in selection.kept.items()
        ),
        left_whole=plan.left_whole,
        near_collapsed=plan.near_collapsed,
        params=count_params(model),
        params_dense=count_params(dense),
        macs=count_macs(model, shape),
        macs_dense=count_macs(dense, shape),
        seconds=seconds,
        unreached=plan.unreached,
        latency=plan.times,
        whole=whole_parts(plan.graph),
        made_plain=made_plain(dense, model),
    )
