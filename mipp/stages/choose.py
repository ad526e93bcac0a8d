"""Stage `choose`: which units stay, and a table of every node that says why."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from mipp.checkpoint import Checkpoint
from mipp.criteria import CRITERIA, CriterionInput
from mipp.criteria.shared.scoring import score_units
from mipp.device import resolve_device
from mipp.graph import ChannelGraph
from mipp.latency import Clock, TimeReport, within_time
from mipp.selection.by_information import order_of, select_by_information
from mipp.selection.by_scores import at_floor, select_by_criterion
from mipp.selection.limits import floors_of
from mipp.selection.selection import Selection
from mipp.stages.context import Context
from mipp.stages.estimate import load_information
from mipp.stages.files import write_json
from mipp.stages.networks import load_dense, pixel_pairs_of, trace
from mipp.stages.splits import load_splits

Nodes = list[dict[str, object]]


def choose_units(context: Context) -> None:
    """Select by information, or by the scores of a rival criterion, under the budget.

    What is measured for a budget of time, or for its price, is left in `latency.json`.
    """
    device = resolve_device(context.params.compute.device)
    checkpoint = load_dense(context.workdir, device)
    graph = trace(checkpoint, device)
    if context.params.choose.method == "mipp":
        selection, nodes, summary = _by_information(context, checkpoint, graph)
    else:
        selection, nodes, summary = _by_criterion(context, checkpoint, graph)
    (context.out / "selection.json").write_text(selection.to_json())
    pq.write_table(pa.Table.from_pylist(nodes), context.out / "nodes.parquet")
    write_json(context.out / "summary.json", summary)


def _provenance(context: Context) -> dict[str, str]:
    choose = context.params.choose
    return {
        "budget": choose.budget,
        "estimator": choose.estimator,
        "order": order_of(choose),
        "seed": str(context.params.seed),
    }


def _by_information(
    context: Context, checkpoint: Checkpoint, graph: ChannelGraph
) -> tuple[Selection, Nodes, dict[str, object]]:
    params = context.params
    pixels = pixel_pairs_of(checkpoint, graph, resolve_device(params.compute.device))
    pixels = pixels if params.extract.inputs == "pixels" else ()
    information = load_information(context.workdir, params)
    provenance = _provenance(context)
    choice, times = within_time(
        lambda timed, config: select_by_information(timed, information, config, provenance, pixels),
        lambda choice: choice.selection,
        graph,
        params.choose,
        _clock(context, checkpoint),
    )
    summary: dict[str, object] = {
        **_written(context, times),
        "threshold": choice.threshold,
        "information": dict(choice.information),
        "near_collapsed_groups": choice.near_collapsed(),
        "left_whole": dict(graph.left_whole),
    }
    if pixels:
        table = pa.Table.from_pylist(choice.pixel_nodes())
        pq.write_table(table, context.out / "pixels.parquet")
        summary["pixels"] = checkpoint.shape[1:]
    return choice.selection, choice.nodes(), summary


def _by_criterion(
    context: Context, checkpoint: Checkpoint, graph: ChannelGraph
) -> tuple[Selection, Nodes, dict[str, object]]:
    params = context.params
    config = params.choose
    device = resolve_device(params.compute.device)
    split = load_splits(params).calibration
    given = CriterionInput(
        checkpoint.model,
        graph,
        lambda: split.batches(config.batch_size, device=device),
        params.seed,
    )
    scores = score_units(config.method, CRITERIA.resolve(config.method), given)
    selection, times = within_time(
        lambda timed, asked: select_by_criterion(timed, scores, asked, _provenance(context)),
        lambda selection: selection,
        graph,
        config,
        _clock(context, checkpoint),
    )
    kept = {group: set(map(int, channels)) for group, channels in selection.kept.items()}
    nodes: Nodes = [
        {"group": group, "channel": c, "score": float(score), "kept": c in kept[group]}
        for group, values in scores.items()
        for c, score in enumerate(values)
    ]
    summary: dict[str, object] = {
        **_written(context, times),
        "near_collapsed_groups": at_floor(selection, floors_of(graph, config)),
        "left_whole": dict(graph.left_whole),
    }
    return selection, nodes, summary


def _clock(context: Context, checkpoint: Checkpoint) -> Clock:
    """Measures as `evaluate` will."""
    params = context.params
    device = resolve_device(params.compute.device)
    return Clock(checkpoint.model, checkpoint.shape, params.evaluate.latency_batch, device)


def _written(context: Context, times: TimeReport | None) -> dict[str, object]:
    """The summary's entry of what was measured, after all of it is written beside it."""
    if times is None:
        return {}
    write_json(context.out / "latency.json", times.to_json())
    best = times.best()
    return {"latency": {"wanted": times.wanted, **asdict(best)}} if best else {}
