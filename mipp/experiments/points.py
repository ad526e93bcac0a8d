"""Points of a grid: one method under one budget, from one seed and start."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mipp.config import Params, dump_results, load_params
from mipp.data.locate import places
from mipp.disk.manifest import fingerprint
from mipp.errors import CheckpointError, ConfigError
from mipp.experiments.methods import DENSE_BUDGET, settings_of
from mipp.experiments.point_stages import point_code
from mipp.experiments.spec import Experiment

WHEN = {"trained": "before-pruning", "untrained": "after-pruning"}
NOT_RESULTS = ("report", "compute", "tracking")  # sections that change no result
# What differs between points, and leaves some without what others need: it is dropped of these.
DECIDERS = (
    "choose.method",
    "choose.budget",
    "train.when",
    "prune.refit",
    "prune.recalibrate",
    "prune.repair",
    "finetune.epochs",
)


@dataclass(frozen=True)
class Point:
    """One cell of the grid and the parameters that it runs with."""

    method: str
    budget: str
    seed: int
    start: str
    variant: str  # what `vary` set, "" without
    params: Params

    @property
    def name(self) -> str:
        """Unique among all points: what it is, and a fingerprint of all that its result needs."""
        parts = [self.start, self.method, self.budget, f"seed{self.seed}", self.key()]
        return "_".join(parts).replace(":", "-")

    def key(self) -> str:
        """Fingerprint of method, and of the parameters and the code that its result depends on."""
        values = dump_results(self.params)
        used = {section: v for section, v in values.items() if section not in NOT_RESULTS}
        return fingerprint([self.method, used, point_code(self.method, self.params)])[:12]

    def identity(self) -> dict[str, Any]:
        """Columns that say which point this is."""
        kind, _, value = self.budget.partition(":")
        return {
            "method": self.method,
            "budget": self.budget,
            "budget_kind": kind,
            "budget_value": float(value),
            "seed": self.seed,
            "start": self.start,
            "variant": self.variant,
        }


def expand(experiment: Experiment, overrides: Sequence[str] = ()) -> list[Point]:
    """Every point of an experiment, in an order that finishes whole seeds first.

    Parameters
    ----------
    overrides : `section.key=value`, which win over the experiment's own.
    """
    points = {}
    for seed, start, variant, budget, method in itertools.product(
        experiment.seeds,
        experiment.start,
        list(_variants(experiment.vary)),
        experiment.budgets,
        experiment.methods,
    ):
        budget = DENSE_BUDGET if method == "dense" else budget
        point = _point(experiment, (method, budget, seed, start), variant, overrides)
        points[point.name] = point  # dense has one budget, whatever the grid's
    return list(points.values())


def _point(
    experiment: Experiment,
    cell: tuple[str, str, int, str],
    variant: Mapping[str, Any],
    overrides: Sequence[str],
) -> Point:
    method, budget, seed, start = cell
    values = {
        "evaluate.export": [],
        "evaluate.latency_repeats": 5,
        **experiment.set,
        **_weights(experiment.weights),
        **variant,
        "seed": seed,
        "train.when": WHEN[start],
        "choose.budget": budget,
        **settings_of(method),
    }
    texts = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    params = load_params(None, [*texts, *overrides], (*DECIDERS, *variant))
    said = ", ".join(f"{key}={value}" for key, value in variant.items())
    return Point(method, str(params.choose.budget), params.seed, start, said, params)


def _variants(vary: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*vary.values()):
        yield dict(zip(vary, values, strict=True))


def _weights(file: str) -> dict[str, str]:
    if not file:
        return {}
    for place in places(None):
        if (place / file).is_file():
            return {"model.weights": str((place / file).resolve())}
    looked = ", ".join(map(str, places(None)))
    raise CheckpointError(
        f"weights {file} (weights) were not found.\nLooked in {looked}: expected a checkpoint, "
        "got no such file; set MIPP_DATA to the folder that holds it."
    )


def only(points: Sequence[Point], filters: Sequence[str]) -> list[Point]:
    """Points that fit every filter.

    Parameters
    ----------
    filters : `column=value`, or `column=value,column=value`; a column given twice may have
        either value.

    Raises
    ------
    ConfigError : no such column, or nothing fits.
    """
    wanted: dict[str, set[str]] = {}
    for text in itertools.chain.from_iterable(f.split(",") for f in filters):
        column, _, value = text.partition("=")
        wanted.setdefault(column, set()).add(value)
    columns = points[0].identity() if points else {}
    for column in wanted:
        if column not in columns:
            raise ConfigError(
                f"filter {column!r} (--only) is no column.\nExpected column=value, got "
                f"{column!r}; choose from {', '.join(columns)}."
            )
    found = [p for p in points if all(str(p.identity()[c]) in v for c, v in wanted.items())]
    if not found:
        raise ConfigError(
            f"no point of the experiment fits --only {' '.join(filters)}.\nExpected values of "
            "its grid, got none that is there; see the experiment's file."
        )
    return found
