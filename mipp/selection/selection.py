"""The one value that cutting takes: which channels of each group stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mipp.errors import CheckpointError
from mipp.graph import IntArray


@dataclass(frozen=True)
class Selection:
    """Kept channels per group, from whatever method.

    A group may be empty: layer collapse is a result, and only cutting refuses it.
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
        try:
            values = json.loads(text)
            kept = {group: np.asarray(k, np.int64) for group, k in values["kept"].items()}
            return Selection(kept, values["width"], values["method"], values["provenance"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"selection cannot be read: {type(error).__name__}: {error}.\nExpected JSON with "
                "kept, width, method and provenance as written by `mipp choose`; re-run it."
            ) from error


def keep_all(width: Mapping[str, int], method: str = "dense") -> Selection:
    """The selection that drops nothing."""
    return Selection({g: np.arange(w) for g, w in width.items()}, dict(width), method)
