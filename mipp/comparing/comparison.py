"""What differs between two pruned networks: settings, sizes, accuracy, speed, widths, units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mipp.comparing.side import Side, side_of
from mipp.pruning.pruned import Pruned
from mipp.report.table import text_table
from mipp.selection.selection import Selection

Two = tuple[Any, Any]  # of the first network and of the second, None where one has it not
SHARES = ("accuracy", "units removed", "latency, share")  # lines that are printed as percent
LABELS = {"params_dense": "params, dense", "macs": "MACs", "macs_dense": "MACs, dense"}


@dataclass(frozen=True)
class GroupComparison:
    """One channel group: its width when dense and now, in both, and how far the kept units agree.

    `agreement` is the Jaccard index: units that both keep, as a share of those that either keeps;
    None where it is not the same group in both.
    """

    name: str
    width: Two
    kept: Two
    agreement: float | None


@dataclass(frozen=True)
class Comparison:
    """Two pruned networks side by side; prints as tables.

    Parameters
    ----------
    names : of the two, as `mipp.compare` was given them.
    settings : those that differ; dotted parameters where both are of a pipeline, else the method
        and what it was used with.
    numbers : all that were counted or measured in one of the two: parameters, multiply-accumulates,
        accuracies and shares from 0 to 1, latency in milliseconds.
    agreement : the Jaccard index of all kept units of groups that both have; None without such.

    Example
    -------
    >>> import mipp, torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    >>> pruned = mipp.prune(net, torch.randn(64, 4), "ratio:0.5")
    >>> mipp.compare(pruned, pruned).agreement
    1.0
    """

    names: tuple[str, str]
    settings: Mapping[str, Two]
    numbers: Mapping[str, Two]
    groups: tuple[GroupComparison, ...]
    agreement: float | None

    def to_dict(self) -> dict[str, Any]:
        """All of it in values that JSON knows; pairs are lists of the first and the second."""
        return {
            "names": list(self.names),
            "settings": {key: list(two) for key, two in self.settings.items()},
            "numbers": {key: list(two) for key, two in self.numbers.items()},
            "groups": [
                {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(group).items()}
                for group in self.groups
            ],
            "agreement": self.agreement,
        }

    def __str__(self) -> str:
        return "\n\n".join(self._tables())

    def _tables(self) -> Iterator[str]:
        if self.settings:
            rows = [(key, *map(_text, two)) for key, two in self.settings.items()]
            yield text_table(("differs", *self.names), rows)
        else:
            yield "no setting differs"
        rows = [_number_row(key, *two) for key, two in self.numbers.items()]
        yield text_table(("", *self.names, "change"), rows)
        every = ("all", "", "", "", _percent(self.agreement))
        widths = [_width_row(group) for group in self.groups]
        yield text_table(("units of", "dense", *self.names, "agreement %"), [*widths, every])


def compare(a: Pruned | str | Path, b: Pruned | str | Path) -> Comparison:
    """What differs between two pruned networks, and how far they keep the same units.

    Parameters
    ----------
    a, b : each what `mipp.prune` returned, or a work directory that `mipp run` or a flow filled,
        or the URL of one.

    Raises
    ------
    ConfigError : one of them is neither.
    WorkdirError : a work directory lacks a stage.

    Example
    -------
    >>> import mipp, torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    >>> half, less = (mipp.prune(net, torch.randn(64, 4), f"ratio:{r}") for r in (0.5, 0.3))
    >>> comparison = mipp.compare(half, less)
    >>> comparison.settings, comparison.groups[0].width
    ({'budget': ('ratio:0.5', 'ratio:0.3')}, (6, 6))
    """
    first, second = side_of(a), side_of(b)
    groups = tuple(_groups(first.selection, second.selection))
    other = second.name if second.name != first.name else f"{second.name} (2)"
    return Comparison(
        names=(first.name, other),
        settings=dict(_different(*_settings(first, second))),
        numbers=dict(_numbers(first.numbers, second.numbers)),
        groups=groups,
        agreement=_jaccard(first.selection, second.selection, _shared(groups)),
    )


def _settings(first: Side, second: Side) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if first.params and second.params:
        return first.params, second.params
    return first.chosen_by, second.chosen_by


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Two]]:
    for key in dict.fromkeys((*first, *second)):
        two = first.get(key), second.get(key)
        if two[0] != two[1]:
            yield key, two


def _numbers(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Two]]:
    for key in dict.fromkeys((*first, *second)):
        two = first.get(key), second.get(key)
        if two != (None, None):
            yield key, two


def _groups(first: Selection, second: Selection) -> Iterator[GroupComparison]:
    for name in dict.fromkeys((*first.width, *second.width)):
        width = first.width.get(name), second.width.get(name)
        kept = first.counts().get(name), second.counts().get(name)
        agreement = _jaccard(first, second, [name]) if width[0] == width[1] else None
        yield GroupComparison(name, width, kept, agreement)


def _shared(groups: Iterable[GroupComparison]) -> list[str]:
    return [group.name for group in groups if group.agreement is not None]


def _jaccard(first: Selection, second: Selection, groups: Iterable[str]) -> float | None:
    """Units that both keep as a share of those that either keeps; two empty sets agree."""
    pairs = [(set(first.kept[g].tolist()), set(second.kept[g].tolist())) for g in groups]
    if not pairs:
        return None
    either = sum(len(one | other) for one, other in pairs)
    return sum(len(one & other) for one, other in pairs) / either if either else 1.0


def _number_row(key: str, first: float | None, second: float | None) -> tuple[str, ...]:
    share = key.startswith(SHARES)
    label = f"{LABELS.get(key, key)}{' %' if share else ''}"
    change = ""
    if first is not None and second is not None:
        change = f"{100 * (second - first):+.2f}" if share else _relative(first, second)
    return label, _number(first, share), _number(second, share), change


def _relative(first: float, second: float) -> str:
    return f"{100 * (second / first - 1):+.1f} %" if first else ""


def _number(value: float | None, share: bool) -> str:
    if value is None:
        return "-"
    if share:
        return f"{100 * value:.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _width_row(group: GroupComparison) -> tuple[str, ...]:
    dense = " / ".join(dict.fromkeys(map(_text, group.width)))  # one number where it is the same
    return group.name, dense, *map(_text, group.kept), _percent(group.agreement)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
