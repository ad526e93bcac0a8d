"""The one value that cutting takes: which channels of each group stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from mipp.disk.manifest import json_object
from mipp.errors import CheckpointError, CutError
from mipp.graph import IntArray
from mipp.selection.head_sizes import KEY, read_sizes, written


@dataclass(frozen=True)
class Selection:
    """Kept channels per group, from whatever method.

    A group may be empty: layer collapse is a result, and only cutting refuses it.

    Example
    -------
    >>> selection = Selection({"conv": np.array([0, 2])}, {"conv": 4}, "by hand")
    >>> selection.dropped("conv"), selection.units_removed()
    (array([1, 3]), 0.5)
    """

    kept: Mapping[str, IntArray]  # group -> sorted kept channels, shape (k,)
    width: Mapping[str, int]  # group -> channels before pruning
    method: str  # "mipp", "l1", ...
    provenance: Mapping[str, str] = field(default_factory=dict)

    def dropped(self, group: str) -> IntArray:
        """Channels of a group that go, sorted."""
        return np.setdiff1d(np.arange(self.width[group]), self.kept[group])

    def counts(self) -> dict[str, int]:
        """Kept channels per group."""
        return {group: len(channels) for group, channels in self.kept.items()}

    def units_removed(self) -> float:
        """Share of all units that go."""
        return 1 - sum(self.counts().values()) / sum(self.width.values())

    def head_sizes(self) -> dict[str, int]:
        """Size of the heads of each attention that became narrower before units were chosen.

        Raises
        ------
        CutError : the provenance has something else in this place.
        """
        return read_sizes(self.provenance.get(KEY, ""))

    def then(self, later: Selection) -> Selection:
        """Both as one: what stays of a network that is cut by this, and what is left by the later.

        Raises
        ------
        CutError : the later one is of another network.

        Example
        -------
        >>> first = Selection({"conv": np.array([0, 2, 5])}, {"conv": 6}, "l1")
        >>> first.then(Selection({"conv": np.array([1, 2])}, {"conv": 3}, "l1")).kept["conv"]
        array([2, 5])
        """
        misfits = [g for g, width in later.width.items() if self.counts().get(g) != width]
        if misfits:
            raise CutError(
                f"a second selection does not follow the first: group {misfits[0]!r}.\nExpected "
                f"{self.counts().get(misfits[0])} channels, as the first leaves, got "
                f"{later.width[misfits[0]]}; measure the network that the first one cut."
            )
        left = {
            group: kept[later.kept[group]]
            for group, kept in self.kept.items()
            if group in later.kept
        }
        heads = {**self.head_sizes(), **later.head_sizes()}
        provenance = {**self.provenance, **({KEY: written(heads)} if heads else {})}
        return replace(self, kept={**self.kept, **left}, method=later.method, provenance=provenance)

    def to_json(self) -> str:
        """Text that `from_json` reads back equal; the same selection gives the same bytes."""
        return json.dumps(
            {
                "method": self.method,
                "provenance": dict(self.provenance),
                "width": dict(self.width),
                "kept": {group: list(map(int, kept)) for group, kept in self.kept.items()},
            },
            indent=1,
            sort_keys=True,
        )

    @staticmethod
    def from_json(text: str) -> Selection:
        """The selection that `to_json` wrote.

        Raises
        ------
        CheckpointError : the text is no selection.
        """
        values = json_object(text.encode(errors="replace"))
        kinds = {"kept": dict, "width": dict, "method": str, "provenance": dict}
        wrong = [key for key, kind in kinds.items() if not isinstance(values.get(key), kind)]
        wrong = wrong or _misfits(values["kept"], values["width"])
        if wrong or not all(isinstance(said, str) for said in values["provenance"].values()):
            raise CheckpointError(
                f"selection cannot be read.\nExpected JSON with kept, width, method and provenance "
                "as written by `mipp choose`, channels sorted and below their width, got another "
                f"{(*wrong, 'provenance')[0]}; re-run it."
            )
        kept = {group: np.asarray(k, np.int64) for group, k in values["kept"].items()}
        return Selection(kept, values["width"], values["method"], values["provenance"])


def _misfits(kept: Mapping[str, Any], width: Mapping[str, Any]) -> list[str]:
    """Groups whose channels are no sorted whole numbers below a width; all, if they differ."""
    if kept.keys() != width.keys():
        return ["set of groups"]
    return [f"group {name!r}" for name in kept if not _is_choice(kept[name], width[name])]


def _is_choice(kept: Any, width: Any) -> bool:
    numbers = [width, *kept] if isinstance(kept, list) else [None]
    if any(type(number) is not int for number in numbers):
        return False
    rising = all(a < b for a, b in pairwise([-1, *kept, width]))
    return rising and width < 2**31


def keep_all(width: Mapping[str, int], method: str = "dense") -> Selection:
    """The selection that drops nothing."""
    return Selection({g: np.arange(w) for g, w in width.items()}, dict(width), method)
