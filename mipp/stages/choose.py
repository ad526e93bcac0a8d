"""Stage `choose`: which units stay, and a table of every unit that says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from mipp.checkpoint import Checkpoint
from mipp.config import Params
from mipp.device import resolve_device
from mipp.disk.storage import Workdir
from mipp.graph.whole import whole_parts
from mipp.pruning.estimates import Estimates
from mipp.pruning.frontier import Frontier, point_of
from mipp.pruning.plain_values import plain
from mipp.pruning.plan import Plan
from mipp.pruning.planner import Planner
from mipp.pruning.ranking import InformationRanking, Ranking
from mipp.selection.by_information import Choice
from mipp.settings import Mipp
from mipp.stages.context import Context
from mipp.stages.estimate import load_information
from mipp.stages.files import write_json
from mipp.stages.networks import NARROW, load_dense, load_narrow, pixel_pairs_of
from mipp.stages.rounds import budgets_of
from mipp.stages.splits import SplitCalibration, load_splits
from mipp.stages.trials import Trials
from mipp.stages.values import limits_of, method_of


def choose_units(context: Context) -> None:
    """Select by information, or by the scores of a rival criterion, under the budget.

    What is measured for a budget of time, or for its price, is left in `latency.json`; what other
    budgets cost, where networks are tried, in `trade_off.json`.
    """
    params = context.params
    dense, planner, ranking = _measured(context.workdir, params)
    trials = Trials(params, dense, planner, ranking)
    plan = trials.plan(budgets_of(params)[0])
    (context.out / "selection.json").write_text(plan.selection.to_json())
    pq.write_table(pa.Table.from_pylist(plan.units()), context.out / "nodes.parquet")
    summary = _summary(context, plan)
    if isinstance(ranking, InformationRanking) and ranking.pixels:
        summary["pixels"] = dense.shape[1:]
    write_json(context.out / "summary.json", summary)
    if params.choose.tries_networks:
        write_json(context.out / "trade_off.json", trials.trade_off(plan))


def trade_off(workdir: Workdir, params: Params, budgets: Sequence[str]) -> Frontier:
    """What several budgets would cost, by what `estimate` left, or by a criterion's scores.

    The stages before `choose` have to be there and up to date, see `require_before`.

    Raises
    ------
    BudgetError : one of the budgets cannot be reached.
    """
    _, planner, ranking = _measured(workdir, params)
    limits = limits_of(params.choose)
    plans = (planner.plan(budget, ranking, limits) for budget in budgets)
    return Frontier(tuple(point_of(plan) for plan in plans))


def _measured(workdir: Workdir, params: Params) -> tuple[Checkpoint, Planner, Ranking]:
    """The network that is cut, with what its method says of the units."""
    device = resolve_device(params.compute.device)
    narrow = load_narrow(workdir.folder, device)
    has_dense = (workdir.folder / NARROW).exists()
    images = SplitCalibration(
        lambda: load_splits(params).calibration, narrow.shape, params.choose.batch_size, device
    )
    batch = params.evaluate.latency_batch  # time is measured as `evaluate` will
    planner = Planner(
        narrow.model,
        images,
        seed=params.seed,
        latency_batch=batch,
        narrow_heads=1,
        dense=load_dense(workdir.folder, device).model if has_dense else None,
    )
    return narrow, planner, _ranking(workdir, params, planner, narrow)


def _ranking(workdir: Workdir, params: Params, planner: Planner, dense: Checkpoint) -> Ranking:
    """By what `estimate` left, or by a criterion's scores."""
    method = method_of(params)
    if not isinstance(method, Mipp):
        return planner.rank(method)
    device = resolve_device(params.compute.device)
    asked = params.extract.inputs == "pixels"
    pixels = pixel_pairs_of(dense, planner.graph, device) if asked else ()
    estimates = Estimates(lambda tested: load_information(workdir, params, tested))
    return InformationRanking(method, estimates, pixels)


def _summary(context: Context, plan: Plan) -> dict[str, object]:
    """The file's entries; pixels and what was measured are written beside it."""
    summary: dict[str, object] = {
        "near_collapsed_groups": list(plan.near_collapsed),
        "left_whole": dict(plan.left_whole),
        "whole": plain(whole_parts(plan.graph)),
    }
    if isinstance(plan.choice, Choice):
        summary |= {"threshold": plan.threshold, "information": dict(plan.information)}
        if plan.choice.pixels:
            table = pa.Table.from_pylist(plan.choice.pixel_units())
            pq.write_table(table, context.out / "pixels.parquet")
    if plan.times:
        write_json(context.out / "latency.json", plan.times.to_json())
        best = plan.times.best()
        if best:
            summary["latency"] = {"wanted": plan.times.wanted, **asdict(best)}
    return summary
