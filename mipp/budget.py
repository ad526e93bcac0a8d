"""How far to prune: the kinds of budget, and their text such as `macs:0.5`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

from mipp.errors import BudgetError, did_you_mean, option

BUDGETS: Mapping[str, tuple[float, float, str]] = {
    "ratio": (0.0, 1.0, "share of the units to remove"),
    "params": (0.0, 1.0, "share of the parameters to keep"),
    "macs": (0.0, 1.0, "share of the multiply-accumulates to keep"),
    "latency": (0.0, 1.0, "share of the measured time to keep"),
    "nats": (0.0, float("inf"), "information under which a unit is dropped"),
    "confidence": (50.0, 100.0, "percent of being sure that a unit adds information"),
    "drop": (0.0, float("inf"), "how far the metric of labelled inputs may fall"),
}
KEPT = ("params", "macs", "latency")  # whose value is what stays
EXAMPLES = {"confidence": 95, "drop": 1}


@dataclass(frozen=True)
class Budget:
    """How far to prune. `kind` is one of `BUDGETS`, `value` its bound.

    Raises
    ------
    BudgetError : the kind is unknown, or the value is outside of the kind's bounds.

    Example
    -------
    >>> str(Budget("macs", 0.5)), Budget("macs", 0.5) == parse_budget("macs:0.50")
    ('macs:0.5', True)
    """

    kind: str
    value: float

    def __post_init__(self) -> None:
        _require(self.kind, self.value, str(self), repr(self.value))

    def __str__(self) -> str:
        return f"{self.kind}:{repr(self.value).removesuffix('.0')}"

    @property
    def is_tested(self) -> bool:
        """Whether it asks for a test of significance."""
        return self.kind == "confidence"

    @property
    def is_searched(self) -> bool:
        """Whether networks must be cut, repaired and scored to find the one that meets it."""
        return self.kind == "drop"


def parse_budget(text: str) -> Budget:
    """Budget from text such as `macs:0.5`.

    Raises
    ------
    BudgetError : the kind is unknown, or the value is no number inside the kind's bounds.
    """
    if not isinstance(text, str):
        raise BudgetError(
            f"{option('budget')} is no text.\nExpected KIND:VALUE such as 'macs:0.5', got "
            f"{text!r}; {_of_a_kind(text)}."
        )
    kind, _, number = text.partition(":")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    _require(kind, value, text, number)
    return Budget(kind, value)


def _require(kind: str, value: float, text: str, number: str) -> None:
    if not isinstance(kind, str) or kind not in BUDGETS:
        raise BudgetError(
            f"{option('budget')}={text!r} has no known kind.\n"
            f"Expected KIND:VALUE such as macs:0.5, got kind {kind!r}; "
            f"{_of_a_kind(kind)}."
        )
    low, high, meaning = BUDGETS[kind]
    lowest, highest = kind in ("ratio", "nats", "drop"), kind in KEPT  # bounds themselves
    number_given = isinstance(value, Real) and not isinstance(value, bool)
    inside = number_given and (
        low < value < high or (lowest and value == low) or (highest and value == high)
    )
    if not inside:
        brackets = f"{'[' if lowest else '('}{low:g}, {high:g}{']' if highest else ')'}"
        raise BudgetError(
            f"{option('budget')}={text!r} is out of range.\n"
            f"Expected the {meaning}, a number in {brackets}, got {number!r}; "
            f"write for example {kind}:{EXAMPLES.get(kind, 0.5)}."
        )


def _of_a_kind(given: object) -> str:
    """What to write in place of what has no kind: of a bare share, it with the likely ones."""
    known = did_you_mean(given, BUDGETS)
    try:
        share = float(str(given))
    except ValueError:
        return known
    if not 0 < share < 1:
        return known
    return (
        f"write 'macs:{share:g}' to keep that share of the multiply-accumulates, or "
        f"'ratio:{share:g}' to remove that share of the units, or {known}"
    )
