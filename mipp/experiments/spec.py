"""What an experiment is: parameters, a grid of points, and scales that change either."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from mipp.budget import parse_budget
from mipp.config import Section, parse_section
from mipp.config.yaml_values import read_yaml
from mipp.errors import ConfigError, did_you_mean
from mipp.experiments.methods import require_method

Start = Literal["trained", "untrained"]
SCALES = ("smoke", "small", "full")
NOTHING: dict[str, Any] = {}  # copied for every model that leaves the field out


class Overlay(Section):
    """What a scale changes; what it leaves out stays, and `set` and `vary` are merged."""

    set: dict[str, Any] = NOTHING
    methods: tuple[str, ...] | None = None
    budgets: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    start: tuple[Start, ...] | None = None
    vary: dict[str, tuple[Any, ...]] = NOTHING
    weights: str | None = None


class Scales(Section):
    """The three scales: seconds on digits, hours on two cores, and as published."""

    smoke: Overlay = Overlay()
    small: Overlay = Overlay()
    full: Overlay = Overlay()


class Experiment(Section):
    """One file of `experiments/`, or that file at one scale.

    `set` holds `section.key: value`; `vary` the same keys with a list of values, which is one
    more side of the grid; `weights` a file looked for where the data are, "" for none. A point
    leaves out what its own method, budget, start or variant does not have.
    """

    title: str
    notes: str = ""
    set: dict[str, Any] = NOTHING
    methods: tuple[str, ...] = ("mipp",)
    budgets: tuple[str, ...] = ("macs:0.5",)
    seeds: tuple[int, ...] = (0, 1, 2)
    start: tuple[Start, ...] = ("trained",)
    vary: dict[str, tuple[Any, ...]] = NOTHING
    weights: str = ""
    scales: Scales = Scales()


def load_experiment(path: Path, scale: str) -> Experiment:
    """The experiment of a file at a scale.

    Raises
    ------
    ConfigError, BudgetError : the file, the scale or anything in the grid is refused.
    """
    if scale not in SCALES:
        raise ConfigError(f"scale {scale!r} (--scale) is unknown; {did_you_mean(scale, SCALES)}.")
    found = at_scale(parse_section(Experiment, read_yaml(path), str(path)), scale)
    for side in ("methods", "budgets", "seeds", "start"):
        _require_values(path, side, getattr(found, side))
    for method in found.methods:
        require_method(method)
    for budget in found.budgets:
        parse_budget(budget)
    return found


def at_scale(experiment: Experiment, scale: str) -> Experiment:
    """The experiment with what one of its scales changes."""
    overlay: Overlay = getattr(experiment.scales, scale)
    sides = ("methods", "budgets", "seeds", "start", "weights")
    changed = {side: getattr(overlay, side) for side in sides}
    return experiment.model_copy(
        update={
            **{side: value for side, value in changed.items() if value is not None},
            "set": {**experiment.set, **overlay.set},
            "vary": {**experiment.vary, **overlay.vary},
        }
    )


def _require_values(path: Path, side: str, values: tuple[Any, ...]) -> None:
    if not values or len(set(values)) < len(values):
        raise ConfigError(
            f"experiment {path} has no grid: its {side} are {list(values)}.\nExpected one value "
            f"or more, each once; mend {side} in the file, or the scale's."
        )
