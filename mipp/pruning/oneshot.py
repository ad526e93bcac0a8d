"""`mipp.prune`: selection, cut and refit of any network in one call."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from torch import nn

from mipp.bounds import require_choice
from mipp.budget import Budget
from mipp.criteria import Criterion as Score
from mipp.criteria.shared.criterion import Loss
from mipp.criteria.shared.scoring import AskedLoss
from mipp.device import device_of
from mipp.errors import ConfigError
from mipp.information.estimators import estimator_named
from mipp.inputs import Call
from mipp.names import address_of
from mipp.pruning.calibration import held_out
from mipp.pruning.drop import Goal, Of
from mipp.pruning.metric import ACCURACY, Metric, score_of
from mipp.pruning.needs_of_refit import foretell_refit
from mipp.pruning.planner import parsed
from mipp.pruning.pruned import Pruned
from mipp.pruning.pruner import Pruner
from mipp.pruning.ranking import Ranking, name_of, require_plannable
from mipp.settings import (
    DROP_CONFIDENCE,
    LATENCY_BATCH,
    MIPP,
    NARROW_HEADS,
    Criterion,
    Distill,
    Limits,
    Method,
    Mipp,
    NoRepair,
    Order,
    Recalibrate,
    Refit,
    Repair,
)

REPAIRS: Mapping[str, Repair] = {
    "refit": Refit(),
    "distill": Distill(),
    "recalibrate": Recalibrate(),
    "none": NoRepair(),
}


def prune(
    model: nn.Module,
    calibration: Iterable[Any],
    budget: str = "macs:0.5",
    *,
    method: str | Score = MIPP,
    estimator: str = "gaussian",
    order: Order = Mipp.order,
    repair: Literal["refit", "distill", "recalibrate", "none"] = "refit",
    images: int = 1024,
    min_channels: int = Limits.min_channels,
    round_to: int = Limits.round_to,
    narrow_heads: float = NARROW_HEADS,
    limits: Mapping[str, float] | None = None,
    ignore: Sequence[str] = (),
    keep_outputs: Sequence[str] = (),
    keep_inputs: Sequence[str] = (),
    latency_batch: int = LATENCY_BATCH,
    calls: Sequence[Call] = (),
    loss: Loss | None = None,
    validation: Iterable[Any] | None = None,
    metric: Metric = ACCURACY,
    drop_confidence: float = DROP_CONFIDENCE,
    of: Of = "macs",
    seed: int = 0,
) -> Pruned:
    """A pruned copy of a network; the one given is left as it was.

    Parameters
    ----------
    calibration : batches of inputs (n, ...), or of (inputs, labels); a random sample of the
        training data, such as a shuffled loader. The first `images` inputs are held in memory;
        those of a `DataLoader`, if they are over 256 MiB and the same each time (no random
        augmentation), are read anew for every pass.
        Where forward takes several tensors, the inputs are a tuple of them, as in
        ((left, right), labels) or ((left, right), None), or a dict of them by keyword.
    budget : `macs:S` and `params:S` keep the share S, `latency:S` that of the time measured on
        the model's device, `ratio:R` removes the share R of the units, `nats:X` drops what adds
        less than X nats, `confidence:X` keeps what adds information with more than X % confidence.
        `drop:X` keeps the smallest network whose metric is at most X below the dense one's, with
        `drop_confidence`.
    method : `mipp`; a rival criterion of `mipp.criteria` or one that was registered; the
        `package.module:attribute` of one of yours, or the function itself.
    estimator : of information: `gaussian`, the closed form; `reconstruction`, the paper's
        perceptrons; `neighbours`, `kernel-density`, `histogram`, `mine`, `infonce`, `nwj`, `tuba`,
        `interpolated`, `diffusion` or `dime`. All but the first, and a budget of confidence, hold
        activation rows in memory.
    order : of the visits: `best-first`, what adds least given all others, ordered anew as
        channels go; or `mi`, once each, the least informative alone first, as in the paper.
        `auto` is best-first, but for a confidence or for the paper's perceptrons.
    repair : after the cut: `refit` the following layers by least squares, then `distill` too: train
        the network, without labels, to compute what the dense one does; only `recalibrate`
        batch-norm statistics, or `none`.
    images : inputs used.
    min_channels : floor per channel group.
    round_to : widths are multiples of this, or whole.
    narrow_heads : share of the variance of an attention's logits, and of its outputs, that the
        dimensions of its heads tell, which become as few as that takes, in multiples of 8; 1 leaves
        heads as they are. Known are torch's attention, timm's, that of transformers' ViT and those
        laid out alike, and the windows of Swin in each.
    limits : pattern of module names -> greatest share of such a group's units that may go.
    ignore, keep_outputs, keep_inputs : names of modules, or patterns with `*`, whose channels
        stay, on both sides or on one.
    latency_batch : inputs at once when time is measured, for a budget of `latency`; what is
        measured varies, so that two calls may differ.
    calls : more calls of the network than its forward, whose layers are cut with the others: names
        of methods that take the inputs, such as "project", or functions of (model, inputs). Train
        mode, with its auxiliary heads, is followed without being asked for.
    loss : of outputs and labels, the mean over a batch, which criteria that go by the loss take
        in place of cross entropy.
    validation, metric, of : of a budget of `drop`: labelled batches, read for every network that is
        tried (a fifth of labelled calibration data without them); `accuracy`, in percentage points,
        or a function of (model, validation), the higher the better; and what is to be small:
        `macs`, `params` or `latency`.
    drop_confidence : percent, with which an accuracy is to fall by no more than a `drop` on other
        inputs than those of `validation` too, see `Pruner.smallest`.
    seed : of the sampled positions and of the random criterion.

    Returns
    -------
    `.model`, `.selection` and `.report`.

    Raises
    ------
    InputError : the network cannot be traced, the calibration data is empty, sorted by class
        or unlabelled where labels are needed, or the budget cannot be reached.

    Example
    -------
    >>> import mipp, torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
    >>> pruned = mipp.prune(net, torch.randn(32, 3, 8, 8), "macs:0.5")
    >>> pruned.model[0].out_channels, net[0].out_channels
    (4, 8)
    """
    phases = _Phases()
    given = parsed(budget)
    searched = given.is_searched
    _refuse_idle_goal(searched, budget, validation, metric, drop_confidence, of)
    asked = Budget(of, 0.5) if searched else given
    if searched and validation is None:
        calibration, validation = held_out(model, calibration, images)
    score = None if validation is None else score_of(metric, validation)
    way = _method(method, estimator, order)
    shares = {} if limits is None else limits
    named = (ignore, keep_outputs, keep_inputs)
    stay = Limits(min_channels, round_to, shares, *named)  # type: ignore[arg-type]  # it makes tuples
    _refuse_idle("loss", loss, None, method == MIPP, "method='mipp'")
    timed = asked.kind == "latency"
    _refuse_idle("latency_batch", latency_batch, LATENCY_BATCH, not timed, f"{budget=}")
    require_plannable(way, asked)
    require_choice("repair", repair, tuple(REPAIRS))
    scored = AskedLoss(loss) if loss else None
    pruner = Pruner(
        model,
        calibration,
        images=images,
        loss=scored,
        seed=seed,
        latency_batch=latency_batch,
        calls=calls,
        narrow_heads=narrow_heads,
        whole_heads=[*stay.ignore, *stay.keep_outputs, *stay.keep_inputs],
    )
    if score is None:
        pruner.require_reachable(asked, stay)
    goal = score and Goal(score, score(pruner.dense), given.value, drop_confidence)
    work = _Work(pruner, stay, REPAIRS[repair], phases)
    work.measure(way, asked)
    if scored:
        scored.require_asked(name_of(way))
    return work.search(goal, of) if goal else work.cut(asked)


def _refuse_idle_goal(
    searched: bool, budget: str, validation: object, metric: Metric, confidence: float, of: Of
) -> None:
    """Refuse what only a search for the smallest good network has a use for."""
    require_choice("of", of, get_args(Of))
    for name, value, usual in (
        ("validation", validation, None),
        ("metric", metric, ACCURACY),
        ("drop_confidence", confidence, DROP_CONFIDENCE),
        ("of", of, "macs"),
    ):
        _refuse_idle(name, value, usual, not searched, f"{budget=}")
    own = metric != ACCURACY
    _refuse_idle("drop_confidence", confidence, DROP_CONFIDENCE, own, f"{metric=}")


class _Work:
    """What a network is measured, cut and repaired by, and the seconds that each takes."""

    def __init__(self, pruner: Pruner, stay: Limits, repair: Repair, phases: _Phases) -> None:
        self._pruner, self._stay, self._repair, self._phases = pruner, stay, repair, phases
        self._ranking: Ranking | None = None
        if isinstance(repair, (Refit, Distill)):
            foretell_refit(pruner.needs_of_refit(), device_of(pruner.model))
        phases.end("read and trace")

    def measure(self, method: Method, budget: Budget) -> None:
        """What the method says of the units."""
        self._ranking = self._pruner.rank(method, budget)
        self._phases.end("measure")

    def cut(self, budget: Budget) -> Pruned:
        """The network under a budget; after that nothing is chosen any more."""
        plan = self._pruner.plan(budget, self._ranking, self._stay)
        self._ranking = None  # its estimates take more memory than all that follows
        self._phases.end("choose")
        return self._timed(self._pruner.cut(plan, self._repair))

    def search(self, goal: Goal, of: Of) -> Pruned:
        """The smallest network that is good enough."""
        found = self._pruner.smallest_for(
            goal, of=of, ranking=self._ranking, limits=self._stay, repair=self._repair
        )
        return self._timed(found)

    def _timed(self, pruned: Pruned) -> Pruned:
        self._phases.end("cut and repair")
        seconds = self._phases.seconds
        report = replace(pruned.report, seconds=sum(seconds.values()), phases=seconds)
        return replace(pruned, report=report)


class _Phases:
    """Seconds of what follows one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun = time.perf_counter()

    def end(self, name: str) -> None:
        """The phase that runs ends, and the next one begins."""
        now = time.perf_counter()
        self.seconds[name], self._begun = now - self._begun, now


def _method(method: str | Score, estimator: str, order: Order) -> Method:
    """The method that the arguments describe; refuses those that it has no use for."""
    if not isinstance(method, str) and not callable(method):
        raise ConfigError(
            f"method: expected a name such as 'mipp' or 'l1', or a criterion, got {method!r}."
        )
    if method == MIPP:
        if not isinstance(estimator, str):
            raise ConfigError(f"estimator: expected a name such as 'gaussian', got {estimator!r}.")
        return Mipp(estimator_named(estimator).settings(), order=order)
    name = method if isinstance(method, str) else address_of(method)
    called = f"method={name!r}"
    _refuse_idle("estimator", estimator, "gaussian", True, called)
    _refuse_idle("order", order, Mipp.order, True, called)
    return Criterion(method)


def _refuse_idle(name: str, value: object, usual: object, idle: bool, beside: str) -> None:
    """Refuse an argument that changes nothing beside another one."""
    if idle and (type(value) is not type(usual) or value != usual):
        raise ConfigError(
            f"{name} has no effect with {beside}.\nExpected it to be left out, got {value!r}; "
            f"leave it out, or choose another {beside.partition('=')[0]}."
        )
