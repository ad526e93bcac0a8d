"""`mipp.prune`: selection, surgery and refit of any network in one call, without a disk."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from mipp.activations import Sampling
from mipp.budget import parse_budget
from mipp.calibration import Batch, collect, labelled
from mipp.config import (
    ChooseConfig,
    EvaluateConfig,
    PruneConfig,
    parse_params,
)
from mipp.criteria import MIPP, Criterion, CriterionInput
from mipp.criteria.shared.choice import require_choice
from mipp.criteria.shared.criterion import Loss
from mipp.criteria.shared.scoring import AskedLoss, score_units
from mipp.cut import apply_selection
from mipp.errors import ConfigError, did_you_mean
from mipp.graph import ChannelGraph, build_graph
from mipp.in_memory import measure_information
from mipp.inputs import Inputs, count, each, joined, shape_of
from mipp.latency import Clock, TimeReport, within_time
from mipp.latency.within_time import asks_for_time
from mipp.metrics import count_macs, count_params
from mipp.names import address_of
from mipp.refit import RefitSettings, rebase, recalibrate, refit
from mipp.selection.by_information import order_of, select_by_information
from mipp.selection.by_scores import at_floor, select_by_criterion
from mipp.selection.limits import floors_of
from mipp.selection.selection import Selection
from mipp.selection.spending import check_reachable

REPAIRS = ("refit", "recalibrate", "none")
PRUNE = PruneConfig()
Found = tuple[Selection, Mapping[str, float], list[str], TimeReport | None]
LATENCY_BATCH = EvaluateConfig().latency_batch


@dataclass(frozen=True)
class GroupReport:
    """One channel group: its width before and after, and its information in nats."""

    name: str
    width: int
    kept: int
    information: float | None  # None for a rival criterion


@dataclass(frozen=True)
class PruneReport:
    """What was removed, what was left whole and why, and what it took; prints as a table."""

    groups: tuple[GroupReport, ...]
    left_whole: Mapping[str, str]
    near_collapsed: tuple[str, ...]
    params: int
    params_dense: int
    macs: int
    macs_dense: int
    seconds: float
    latency: TimeReport | None = None  # where the budget or its price is time

    def __str__(self) -> str:
        lines = [
            f"params {self.params_dense:,} -> {self.params:,} "
            f"({100 * self.params / self.params_dense:.1f} %), "
            f"MACs {self.macs_dense:,} -> {self.macs:,} "
            f"({100 * self.macs / self.macs_dense:.1f} %), {self.seconds:.1f} s"
        ]
        best = self.latency.best() if self.latency else None
        if self.latency and best:
            where = "batch {batch} on {device}".format(**self.latency.circumstances)
            lines.append(f"latency {100 * best.measured:.1f} % of the dense network's, {where}")
        lines += [f"  {g.name}: {g.width} -> {g.kept}" for g in self.groups]
        lines += [f"  {name} left whole: {why}" for name, why in self.left_whole.items()]
        lines += [
            f"  {name}: would have collapsed, kept at its floor" for name in self.near_collapsed
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Pruned:
    """A new, smaller network, the selection that made it, and a report."""

    model: nn.Module
    selection: Selection
    report: PruneReport


def prune(
    model: nn.Module,
    calibration: Iterable[Any],
    budget: str = "macs:0.5",
    *,
    method: str | Criterion = "mipp",
    estimator: str = "gaussian",
    order: Literal["auto", "mi", "best-first"] = "auto",
    repair: Literal["refit", "recalibrate", "none"] = "refit",
    images: int = 1024,
    min_channels: int = 1,
    round_to: int = 1,
    limits: Mapping[str, float] | None = None,
    ignore: Sequence[str] = (),
    keep_outputs: Sequence[str] = (),
    keep_inputs: Sequence[str] = (),
    latency_batch: int = LATENCY_BATCH,
    loss: Loss | None = None,
    seed: int = 0,
) -> Pruned:
    """A pruned copy of a network; the one given is left as it was.

    Parameters
    ----------
    calibration : batches of inputs (n, ...), or of (inputs, labels); a random sample of the
        training data, such as a shuffled loader. The first `images` inputs are held in memory.
        Where forward takes several tensors, the inputs are a tuple of them, as in
        ((left, right), labels) or ((left, right), None), or a dict of them by keyword.
    budget : `macs:S` and `params:S` keep the share S, `latency:S` that of the time measured on
        the model's device, `ratio:R` removes the share R of the units, `nats:X` drops what adds
        less than X nats, `confidence:X` keeps what adds information with more than X % confidence.
    method : `mipp`; a rival criterion of `mipp.criteria` or one that was registered; the
        `package.module:attribute` of one of yours, or the function itself.
    estimator : of information: `gaussian`, the closed form, or `reconstruction`, the paper's
        perceptrons. The latter, and a budget of confidence, hold activation rows in memory.
    order : of the visits: `best-first`, what adds least given all others, ordered anew as
        channels go; or `mi`, once each, the least informative alone first, as in the paper.
        `auto` is best-first, but for a confidence or for the paper's perceptrons.
    repair : after surgery: `refit` the following layers by least squares, only `recalibrate`
        batch-norm statistics, or `none`.
    images : inputs used.
    min_channels : floor per channel group.
    round_to : widths are multiples of this, or whole.
    limits : pattern of module names -> greatest share of such a group's units that may go.
    ignore, keep_outputs, keep_inputs : names of modules, or patterns with `*`, whose channels
        stay, on both sides or on one.
    latency_batch : inputs at once when time is measured, for a budget of `latency`; what is
        measured varies, so that two calls may differ.
    loss : of outputs and labels, the mean over a batch, which criteria that go by the loss take
        in place of cross entropy.
    seed : of the sampled positions and of the random criterion.

    Returns
    -------
    `.model`, `.selection` and `.report`.

    Raises
    ------
    InputError : the network cannot be traced, the calibration data is empty, sorted by class
        or unlabelled where labels are needed, or the budget cannot be reached.
    """
    started = time.perf_counter()
    config = _configured(
        method=method if isinstance(method, str) else address_of(method),
        estimator=estimator,
        order=order,
        budget=budget,
        min_channels=min_channels,
        round_to=round_to,
        limits=dict(limits or {}),
        ignore=tuple(ignore),
        keep_outputs=tuple(keep_outputs),
        keep_inputs=tuple(keep_inputs),
    )
    _refuse_idle(config, latency_batch, loss)
    criterion = require_choice(config, None if isinstance(method, str) else method)
    _require_one_of("repair", repair, REPAIRS)
    if images < 1:
        raise ConfigError(f"images: expected at least 1 calibration input, got {images}.")
    if latency_batch < 1:
        raise ConfigError(f"latency_batch: expected at least 1 input, got {latency_batch}.")
    batches = collect(calibration, images, _device(model))
    example = each(batches[0][0], lambda tensor: tensor[:1])
    graph = build_graph(model, example)
    check_reachable(graph, parse_budget(budget), floors_of(graph, config))
    clock = Clock(model, shape_of(example), latency_batch, _device(model))
    if criterion is None:
        found = _by_information(clock, graph, batches, config, seed)
    else:
        asked = AskedLoss(loss) if loss else None
        given = CriterionInput(
            model, graph, lambda: labelled(batches), seed, lambda: [x for x, _ in batches], asked
        )
        found = _by_criterion(clock, criterion, given, config)
        if asked:
            asked.require_asked(config.method)
    selection, information, near, times = found
    pruned = apply_selection(model, selection, example)
    _repair(pruned, model, graph, selection, [x for x, _ in batches], repair, seed)
    report = PruneReport(
        groups=tuple(
            GroupReport(name, graph.widths[name], len(kept), information.get(name))
            for name, kept in selection.kept.items()
        ),
        left_whole=graph.left_whole,
        near_collapsed=tuple(near),
        params=count_params(pruned),
        params_dense=count_params(model),
        macs=count_macs(pruned, shape_of(example)),
        macs_dense=count_macs(model, shape_of(example)),
        seconds=time.perf_counter() - started,
        latency=times,
    )
    return Pruned(pruned, selection, report)


def _require_one_of(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ConfigError(f"{what} {name!r} is unknown; {did_you_mean(name, known)}.")


def _refuse_idle(config: ChooseConfig, latency_batch: int, loss: Loss | None) -> None:
    """Refuse arguments that change nothing; those of the configuration are refused there."""
    idle = (
        ("loss", loss is not None and config.method == MIPP, f"method={config.method!r}"),
        (
            "latency_batch",
            latency_batch != LATENCY_BATCH and not asks_for_time(config),
            f"budget={config.budget!r}",
        ),
    )
    for name, is_idle, decider in idle:
        if is_idle:
            raise ConfigError(
                f"{name} has no effect with {decider}.\nExpected it to be left out, got one; "
                f"leave it out, or choose another {decider.partition('=')[0]}."
            )


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _configured(**choices: Any) -> ChooseConfig:
    """The arguments as the section that the pipeline uses, checked the same way."""
    return parse_params({"choose": choices}).choose


def _provenance(config: ChooseConfig, seed: int) -> dict[str, str]:
    return {"budget": config.budget, "order": order_of(config), "seed": str(seed)}


def _by_information(
    clock: Clock,
    graph: ChannelGraph,
    batches: list[Batch],
    config: ChooseConfig,
    seed: int,
) -> Found:
    inputs = [x for x, _ in batches]
    information = measure_information(clock.model, graph, inputs, config, seed)
    provenance = _provenance(config, seed)
    choice, times = within_time(
        lambda timed, asked: select_by_information(timed, information, asked, provenance),
        lambda choice: choice.selection,
        graph,
        config,
        clock,
    )
    return choice.selection, choice.information, choice.near_collapsed(), times


def _by_criterion(
    clock: Clock, criterion: Criterion, given: CriterionInput, config: ChooseConfig
) -> Found:
    scores, provenance = (
        score_units(config.method, criterion, given),
        _provenance(config, given.seed),
    )
    selection, times = within_time(
        lambda timed, asked: select_by_criterion(timed, scores, asked, provenance),
        lambda selection: selection,
        given.graph,
        config,
        clock,
    )
    return selection, {}, at_floor(selection, floors_of(given.graph, config)), times


def _repair(
    pruned: nn.Module,
    dense: nn.Module,
    graph: ChannelGraph,
    selection: Selection,
    inputs: list[Inputs],
    repair: str,
    seed: int,
) -> None:
    if repair == "recalibrate":
        recalibrate(pruned, inputs)
    elif repair == "refit":
        total = sum(count(x) for x in inputs)
        settings = RefitSettings(PRUNE.ridge, Sampling(PRUNE.rows, total, seed))
        whole = [joined(inputs)]
        refit(pruned, dense, graph, selection, lambda: whole, settings)
        rebase(pruned, inputs)
