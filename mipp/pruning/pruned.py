"""A cut network with its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from mipp.checkpoint import Checkpoint, save_checkpoint
from mipp.distill import Distilled
from mipp.graph.reasons import CATEGORIES, Reason
from mipp.graph.whole import folded
from mipp.inputs import Shape
from mipp.latency import TimeReport
from mipp.layers.weights import made_plain
from mipp.metrics import count_macs, count_params
from mipp.pruning.drop import Search
from mipp.pruning.plan import Plan
from mipp.selection.selection import Selection
from mipp.whole_files import written_whole

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
    """What was removed, what was left whole and why, and what it took; prints as a table."""

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
    made_plain: tuple[str, ...] = ()  # weights that were computed, as under a spectral norm
    phases: Mapping[str, float] = field(default_factory=dict, compare=False)  # of `seconds`

    def __str__(self) -> str:
        lines = [
            f"params {self.params_dense:,} -> {self.params:,} "
            f"({100 * self.params / self.params_dense:.1f} %), "
            f"MACs {self.macs_dense:,} -> {self.macs:,} "
            f"({100 * self.macs / self.macs_dense:.1f} %), {self.seconds:.1f} s"
        ]
        if self.phases:
            lines.append(", ".join(f"{name} {spent:.1f} s" for name, spent in self.phases.items()))
        best = self.latency.best() if self.latency else None
        if self.latency and best:
            where = "batch {batch} on {device}".format(**self.latency.circumstances)
            lines.append(f"latency {100 * best.measured:.1f} % of the dense network's, {where}")
        if 0 < self.inputs < FEW:
            counted = "1 input" if self.inputs == 1 else f"{self.inputs} inputs"
            lines.append(f"  measured on {counted}, too few to tell units apart: give some hundred")
        lines += [f"  {g.name}: {g.width} -> {g.kept}" for g in self.groups]
        lines += _whole_lines(self.left_whole)
        lines += [f"  {names} left as it is: {why}" for names, why in _by_reason(self.unreached)]
        if self.unreached:
            lines.append("  whoever calls these needs calls=, with the call that runs them")
        lines += [
            f"  {name}: would have collapsed, kept at its floor" for name in self.near_collapsed
        ]
        lines += [f"  {names}: {why}" for names, why in _by_reason(self.unfitted)]
        if self.search:
            lines += [f"  {line}" for line in str(self.search).splitlines()]
        if self.distilled:
            lines.append(f"  {self.distilled}")
        if self.made_plain:
            names = folded(self.made_plain)
            lines.append(f"  {names}: plain now; a spectral norm or the like computed it before")
        return "\n".join(lines)


def _whole_lines(reasons: Mapping[str, Reason]) -> Iterator[str]:
    """Layers by the kind of reason, with that of one of them where they are several."""
    for category, meaning in CATEGORIES.items():
        layers = [name for name, reason in reasons.items() if reason.category == category]
        if len(layers) == 1:
            yield f"  {layers[0]} left whole: {reasons[layers[0]]}"
        elif layers:
            yield f"  {folded(layers)} left whole: {meaning.what}, such as"
            yield f"    {layers[0]}: {reasons[layers[0]]}"


def _by_reason(reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Names in a few words, with the reason that they share."""
    for why in dict.fromkeys(reasons.values()):
        yield folded(name for name, other in reasons.items() if other == why), why


@dataclass(frozen=True)
class Pruned:
    """A new, smaller network, the selection that made it, a report, and one input's shape.

    Example
    -------
    >>> import mipp, torch
    >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    >>> pruned = mipp.prune(net, torch.randn(64, 4), "ratio:0.5")
    >>> pruned.model[0].out_features
    3
    """

    model: nn.Module
    selection: Selection
    report: PruneReport
    shape: Shape  # without the batch axis

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all: tensors, and what `mipp.load` makes it again by.

        Never a pickle. The network is written as it is now, fine-tuned where it was.
        """
        with written_whole(Path(path)) as partial:
            save_checkpoint(partial, Checkpoint(self.model, None, self.selection, self.shape))


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
        made_plain=made_plain(dense, model),
    )
