"""What a point's method may be: mipp, a criterion, or a control, and what a control changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mipp.criteria import CRITERIA
from mipp.errors import ConfigError, did_you_mean
from mipp.needed_stages import search_of
from mipp.settings import MIPP

# Control -> what is set beside the experiment's own parameters. Each has the widths of mipp's
# selection under the same parameters, but `dense`, which keeps every unit.
CONTROLS: Mapping[str, Mapping[str, Any]] = {
    "dense": {"choose.method": "l1", "choose.budget": "ratio:0"},
    "random-same-widths": {},
    "re-initialised": {"prune.refit": False, "prune.recalibrate": False},
    "small-dense": {"prune.refit": False, "prune.recalibrate": False},
}
DENSE_BUDGET = "ratio:0"


def known_methods() -> tuple[str, ...]:
    """All names, mipp first."""
    return (MIPP, *CRITERIA, *CONTROLS)


def require_method(name: str) -> None:
    """Refuse a method that does not exist.

    Raises
    ------
    ConfigError : names the methods there are, or says what is wrong with one of yours.
    """
    if ":" in name:
        CRITERIA.resolve(name)
    elif name not in known_methods():
        raise ConfigError(
            f"method {name!r} (methods) is unknown; {did_you_mean(name, known_methods())}, or "
            "give one of yours as package.module:attribute."
        )


def is_criterion(method: str) -> bool:
    """Whether a method is a criterion: neither mipp nor a control."""
    return method != MIPP and method not in CONTROLS


def settings_of(method: str) -> Mapping[str, Any]:
    """Parameters that a method sets."""
    return CONTROLS.get(method, {"choose.method": method})


def searches(method: str) -> tuple[str, ...]:
    """Stages whose seconds are the method's search: of a control those of the mipp beside it."""
    if method == "dense":
        return ()
    return search_of(method if is_criterion(method) else MIPP)
