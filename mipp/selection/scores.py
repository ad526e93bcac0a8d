"""What a rival criterion says of every channel, checked before anything is selected by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mipp.errors import ScoreError

Values = npt.NDArray[np.float64]
GroupScores = Mapping[str, Values]  # group -> score per channel (width,), higher means keep


class Scores(Mapping[str, Values]):
    """Group -> score per channel, higher means keep; exists only where it can rank all units.

    Every group has as many finite floats as it has channels, and not all numbers of all groups
    are the same. Those of one group may be: its units are then alike, beside units that are not.

    Parameters
    ----------
    values : as a criterion gave them.
    widths : group -> channels.
    source : whose scores they are, such as "method 'l1'", for the refusal.

    Raises
    ------
    ScoreError : says which group does not fit, or that no unit is told from another.

    Example
    -------
    >>> scores = Scores({"conv": np.array([1.0, 2.0])}, {"conv": 2}, "method 'mine'")
    >>> scores["conv"].tolist()
    [1.0, 2.0]
    """

    def __init__(self, values: GroupScores, widths: Mapping[str, int], source: str) -> None:
        _require_groups(values, widths, source)
        for group, width in widths.items():
            _require_floats(values[group], width, f"scores of group {group!r} by {source}")
        self._values = {group: np.asarray(values[group], np.float64) for group in widths}
        _require_difference(self._values, source)

    def __getitem__(self, group: str) -> Values:
        return self._values[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _require_groups(values: Any, widths: Mapping[str, int], source: str) -> None:
    expected = f"Expected scores of the groups {', '.join(widths)}"
    if not isinstance(values, Mapping):
        raise ScoreError(
            f"{source} gave no scores.\n{expected}, got a {type(values).__name__}; return a "
            "mapping from the name of each group to an array."
        )
    absent = [group for group in widths if group not in values]
    strange = [group for group in values if group not in widths]
    if absent or strange:
        wrong = f"left out group {absent[0]!r}" if absent else f"scored {strange[0]!r}, no group"
        raise ScoreError(
            f"{source} {wrong}.\n{expected}, got those of {', '.join(map(str, values)) or 'none'}; "
            "return one array for each group of given.graph.groups."
        )


def _require_floats(values: Any, width: int, what: str) -> None:
    if not (isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating)):
        kind = getattr(values, "dtype", "")
        raise ScoreError(
            f"{what} are no floats.\nExpected a NumPy array of shape ({width},), got a "
            f"{type(values).__name__} {kind}".rstrip()
            + "; of a tensor take "
            ".double().cpu().numpy()."
        )
    if values.shape != (width,):
        raise ScoreError(
            f"{what} do not fit its units.\nExpected one for each of {width} channels, shape "
            f"({width},), got shape {values.shape}; add up what coupled layers have of a channel."
        )
    require_finite(values, what)


def require_finite(values: Values, what: str) -> None:
    """Refuse NaN and infinity, which have no rank.

    Raises
    ------
    ScoreError : says how many and where.
    """
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ScoreError(
            f"{what} cannot be ranked.\nExpected finite numbers, got {values[wrong[0]]} for "
            f"{len(wrong)} of {len(values)} channels, the first of them {wrong[0]}; check the "
            "calibration images, the labels and the loss, or choose another method."
        )


def _require_difference(values: GroupScores, source: str) -> None:
    flat = np.concatenate([np.empty(0), *values.values()])
    if len(flat) > 1 and np.ptp(flat) == 0:
        raise ScoreError(
            f"{source} tells no unit from another.\nExpected scores that differ, got {flat[0]:g} "
            f"for all {len(flat)} channels of {len(values)} groups. A criterion of the loss needs "
            "one that depends on the outputs: pass loss=, the mean loss of outputs and labels. One "
            "of ranks, 'hrank', needs activations that are often zero, as after a ReLU: maps of "
            "any others have full rank. Else choose another method."
        )
