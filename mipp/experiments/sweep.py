"""A sweep: all points of an experiment, a bounded number at once, and their table."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

from mipp.config import Params
from mipp.disk.manifest import fingerprint
from mipp.disk.storage import Workdir
from mipp.disk.whole_files import locked, write_whole
from mipp.disk.workdir import require_writable
from mipp.errors import MippError, reason_of
from mipp.experiments.engine import result_file, run_point
from mipp.experiments.points import Point, expand, only
from mipp.experiments.report import write_report
from mipp.experiments.results import TABLE, read_rows, read_table, write_table
from mipp.experiments.shared import lock_of
from mipp.experiments.spec import Experiment, load_experiment
from mipp.experiments.workers import start_workers
from mipp.progress import track
from mipp.pruning.ranking import require_plannable
from mipp.stages import preflight
from mipp.stages.values import method_of

logger = logging.getLogger(__name__)
OF_CLUSTERS = ("compute.runner=ray", "compute.address", "compute.cpus_per_", "compute.gpus_per_")
Outcome = tuple[Point, str | None]  # a point, and why it failed


@dataclass(frozen=True)
class Plan:
    """What is to be computed, after everything about it was checked."""

    name: str
    scale: str
    experiment: Experiment
    grid: tuple[Point, ...]  # all of them, for the table
    wanted: tuple[Point, ...]  # those asked for
    overrides: tuple[str, ...] = ()


def plan_sweep(
    file: Path,
    scale: str,
    root: Path,
    overrides: Sequence[str] = (),
    filters: Sequence[str] = (),
) -> Plan:
    """Points of an experiment's file; whatever can be refused is refused here.

    What code that somebody brings raises, such as a network's function, is its points' own failure.

    Raises
    ------
    InputError : the file, a parameter, the data, a budget or the folder does not fit.
    """
    experiment = load_experiment(file, scale)
    grid = expand(experiment, overrides)
    wanted = only(grid, filters) if filters else grid
    require_writable(Workdir(root))
    checked: set[str] = set()
    for point in wanted:
        require_plannable(method_of(point.params), point.params.choose.budget)
        like = fingerprint(_without_seed(point.params).model_dump(mode="json"))
        if like not in checked and not result_file(root, point).exists():
            checked.add(like)
            _check(root, point)
    return Plan(file.stem, scale, experiment, tuple(grid), tuple(wanted), tuple(overrides))


def _check(root: Path, point: Point) -> None:
    try:
        preflight(Workdir(root / "shared"), point.params)
    except MippError:
        raise
    except Exception as error:  # of no code of ours: the other points may do without it
        logger.warning("%s is going to fail: %s", point.name, reason_of(error))


def _without_seed(params: Params) -> Params:
    """The parameters that a check before compute looks at: seeds and criteria are alike to it."""
    alike = {"seed": 0, "choose": params.choose.model_copy(update={"method": "l1"})}
    return params.model_copy(update=alike if params.choose.method != "mipp" else {"seed": 0})


def run_sweep(plan: Plan, root: Path, workers: int = 1) -> list[Outcome]:
    """Compute what is missing, write the table, and return the points that failed.

    A failure, whatever code it comes from, is kept beside the points as text, does not stop the
    others, and is tried again by the next sweep.
    """
    missing = [point for point in plan.wanted if not result_file(root, point).exists()]
    logger.info("%s: %d points, %d to compute", plan.name, len(plan.wanted), len(missing))
    outcomes = _apart(root, missing, workers) if workers > 1 else _here(root, missing)
    failed = [o for o in track(outcomes, total=len(missing), label="points") if o[1] is not None]
    save_results(plan, root)
    return failed


def save_results(plan: Plan, root: Path) -> None:
    """Rebuild the table of all complete points of the grid, and the report of it.

    Of sweeps that end at once over one root, each writes its own after the other's.
    """
    with locked(lock_of(root, TABLE)):
        if rows := read_rows(root, plan.grid):
            write_table(rows, root / TABLE, about(plan))
            write_report(*read_table(root / TABLE), root / "report")


def about(plan: Plan) -> dict[str, str]:
    """What all rows of the table have in common."""
    return {
        "experiment": plan.name,
        "scale": plan.scale,
        "title": plan.experiment.title,
        "notes": plan.experiment.notes.strip(),
        "points": str(len(plan.grid)),
        "command": command(plan),
        "parameters": json.dumps(plan.grid[0].params.model_dump(mode="json"), sort_keys=True),
    }


def command(plan: Plan) -> str:
    """The command that computes the whole grid, on one machine."""
    kept = [text for text in plan.overrides if not text.startswith(OF_CLUSTERS)]
    said = "".join(f" --set {text}" for text in kept)
    return f"mipp sweep experiments/{plan.name}.yaml --scale {plan.scale}{said}"


def attempt(root: Path, point: Point) -> str | None:
    """Compute a point; None, or the error, which is also left beside the points.

    Where it is none of mipp's, with the traceback.
    """
    note = result_file(root, point).with_suffix(".error")
    try:
        run_point(root, point)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        write_whole(note, text if isinstance(error, MippError) else traceback.format_exc())
        return text
    note.unlink(missing_ok=True)
    return None


def _here(root: Path, points: Sequence[Point]) -> Iterator[Outcome]:
    for point in points:
        yield point, attempt(root, point)


def _apart(root: Path, points: Sequence[Point], workers: int) -> Iterator[Outcome]:
    with start_workers(workers) as pool:
        running = {pool.submit(attempt, root, point): point for point in points}
        for done in as_completed(running):
            yield running[done], done.result()
