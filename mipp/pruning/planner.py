"""A network and calibration data: measured once, planned for many budgets."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from operator import itemgetter
from typing import Any
from weakref import WeakValueDictionary

from torch import nn

from mipp.activations import Sampling
from mipp.bounds import Count, Seed, Share, require_names, require_number
from mipp.budget import Budget, parse_budget
from mipp.checkpoint.calls import KEY as CALLS
from mipp.checkpoint.calls import written_calls
from mipp.copies import copy_of
from mipp.criteria import CRITERIA, CriterionInput
from mipp.criteria.shared.criterion import Loss
from mipp.criteria.shared.scoring import score_units
from mipp.device import device_of, synchronize
from mipp.errors import BudgetError, EstimationError, SingularCovarianceError, option
from mipp.finite import require_finite_activations, require_finite_weights
from mipp.graph import ChannelGraph, with_projections
from mipp.graph.build import follow_channels, require_prunable
from mipp.inputs import Call, count, each, shape_of
from mipp.latency import Clock, within_time
from mipp.layers.weights import plain
from mipp.narrowing import narrowed, sizes_of_heads
from mipp.pruning.calibration import Calibration
from mipp.pruning.estimates import Estimates, measure_information
from mipp.pruning.first_batch import classified
from mipp.pruning.heads import require_not_named, times_wider
from mipp.pruning.needs import (
    Needs,
    Size,
    announce,
    needs_of_search,
    require_memory,
    seconds_of_search,
    sizes_of,
)
from mipp.pruning.network import opened, require_calls
from mipp.pruning.plan import Plan
from mipp.pruning.ranking import (
    InformationRanking,
    Ranking,
    ScoreRanking,
    asks_for_time,
    name_of,
    provenance_of,
    require_plannable,
)
from mipp.pruning.read_anew import calibration_of
from mipp.selection.head_sizes import KEY as HEADS
from mipp.selection.head_sizes import written
from mipp.selection.limits import floors_of
from mipp.selection.spending import check_reachable
from mipp.settings import (
    LATENCY_BATCH,
    MIPP,
    NARROW_HEADS,
    Criterion,
    Gaussian,
    Limits,
    Method,
    Mipp,
)
from mipp.surroundings import undisturbed

LOOKED_AT = 16  # inputs, at most, for which every layer is looked at before anything else is done


class Planner:
    """Measures a network once and answers many times: `rank`, then `plan`.

    The network given is left as it is.

    Parameters
    ----------
    calibration : batches of inputs (n, ...), or of (inputs, labels); a random sample of the
        training data, such as a shuffled loader. The first `images` inputs are held in memory;
        those of a `DataLoader`, if they are over 256 MiB and the same each time, are read anew for
        every pass. Or a `Calibration` of yours, which reads its own anew.
    loss : of outputs and labels, the mean over a batch, which criteria that go by the loss take
        in place of cross entropy.
    seed : of the sampled positions and of the random criterion.
    latency_batch : inputs at once when time is measured, for a budget of `latency`.
    calls : more calls of the network than its forward, whose layers are cut with the others: names
        of methods that take the inputs, or functions of (model, inputs).
    narrow_heads : share of the variance of an attention's logits, and of its outputs, that its
        heads tell; with as few dimensions as that takes they are measured and cut. 1 leaves them.
    whole_heads : names of attentions, or patterns with `*`, whose heads stay as wide as they are.
    dense : the network that shares are of, where the one given is that with narrower heads.

    Raises
    ------
    InputError : the network's weights or the inputs hold NaN or infinity, or the calibration data
        is empty or sorted by class.

    Example
    -------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    >>> planner = Planner(model, [torch.randn(256, 8)])
    >>> plan = planner.plan("ratio:0.25", planner.rank("l1"))
    >>> plan.selection.counts(), plan.spending()["units"]
    ({'0': 12}, 0.75)
    """

    @undisturbed()
    def __init__(
        self,
        model: nn.Module,
        calibration: Iterable[Any] | Calibration,
        *,
        images: int = 1024,
        loss: Loss | None = None,
        seed: int = 0,
        latency_batch: int = LATENCY_BATCH,
        calls: Sequence[Call] = (),
        narrow_heads: float = NARROW_HEADS,
        whole_heads: Sequence[str] = (),
        dense: nn.Module | None = None,
    ) -> None:
        require_number("images", images, Count)
        require_number("narrow_heads", narrow_heads, Share)
        require_number("latency_batch", latency_batch, Count)
        require_number("seed", seed, Seed)
        require_names("whole_heads", whole_heads)
        require_calls(calls, loss)
        model = copy_of(opened(model))  # forward may change the network that it belongs to
        self.loss, self.seed, self.calls = loss, seed, tuple(calls)
        require_finite_weights(model)
        device = device_of(model)
        if not isinstance(calibration, Calibration):
            calibration = calibration_of(model, calibration, images)
        self.calibration: Calibration = calibration
        model = with_projections(model, calibration.example(), self.calls)
        self.dense = model if dense is None else dense
        self.model = narrowed(model, calibration.inputs(), narrow_heads, whole_heads)
        self.heads = sizes_of_heads(self.model, self.dense)
        self.shape = shape_of(calibration.example())
        wider = self.dense if self.heads else None
        self._clock = Clock(self.model, self.shape, latency_batch, device, self.calls, wider)
        self._known: WeakValueDictionary[Any, Estimates] = WeakValueDictionary()

    @cached_property
    def graph(self) -> ChannelGraph:
        """The network's channel groups and who reads them.

        Raises
        ------
        ModelError : it has none.
        """
        require_prunable(self.model, self.channels)
        return self.channels

    @cached_property
    @undisturbed()
    def channels(self) -> ChannelGraph:
        """The same, also of a network in which nothing can be pruned."""
        batch = next(iter(self.calibration.inputs()))
        others = [each(batch, itemgetter(slice(i, i + 1))) for i in range(1, min(4, count(batch)))]
        looked_at, started = each(batch, itemgetter(slice(LOOKED_AT))), time.perf_counter()
        require_finite_activations(self.model, looked_at)
        synchronize(device_of(self.model))
        self._seconds_per_input = (time.perf_counter() - started) / count(looked_at)
        graph = follow_channels(self.model, self.calibration.example(), self.calls, others)
        if not self.heads:
            return graph
        return replace(graph, wider=times_wider(graph, self.model, self.dense, self.shape))

    @undisturbed()
    def rank(self, method: str | Method = MIPP, budget: str | Budget | None = None) -> Ranking:
        """What a method says of the units; pays for all plans made of it.

        Rankings by information that differ in nothing but how it is used share one measurement.

        Parameters
        ----------
        method : `Mipp(...)`, `Criterion(...)`, or the name of either.
        budget : of the plan to come, where it is known. For a confidence activation rows are held
            in memory; without one they are read again when such a plan is made.

        Raises
        ------
        InputError : the network cannot be traced, or the method does not fit it or the data.
        """
        if isinstance(method, str):
            method = Mipp() if method == MIPP else Criterion(method)
        if isinstance(method, Criterion):
            return self._by_scores(method)
        tested = budget is not None and parsed(budget).is_tested
        ranking = InformationRanking(method, self._estimates(method))
        if not ranking.estimates.has(tested):
            needs, sizes = self._needs(method, tested)
            require_memory(needs, sizes, self.calibration.count(), device_of(self.model))
            announce("search", needs)
        with self._estimating():
            ranking.estimates.answers(tested)
        return ranking

    @undisturbed()
    def plan(
        self,
        budget: str | Budget = "macs:0.5",
        ranking: Ranking | None = None,
        limits: Limits | None = None,
    ) -> Plan:
        """Which units stay under a budget, and why each of them.

        Parameters
        ----------
        budget : `macs:S` and `params:S` keep the share S, `latency:S` that of the time measured on
            the model's device, `ratio:R` removes the share R of the units, `nats:X` drops what adds
            less than X nats, `confidence:X` keeps what adds information with more than X %
            confidence.
        ranking : of `rank`; that of `Mipp()` where there is none.

        Raises
        ------
        BudgetError : the budget cannot be reached, is none that the ranking can meet, or needs
            networks that are cut and scored.
        """
        budget, limits = parsed(budget), limits or Limits()
        _require_one_plan(budget)
        method = ranking.method if ranking else Mipp()
        require_plannable(method, budget)
        self.require_reachable(budget, limits)
        chosen = ranking or self._default
        provenance = provenance_of(method, budget, self.seed)
        if self.calls:
            provenance[CALLS] = written_calls(self.calls)
        if self.heads:
            require_not_named(self.model, limits, self.heads)
            provenance[HEADS] = written(self.heads)

        def select(graph: ChannelGraph, asked: Budget) -> Any:
            with self._estimating():
                return chosen.choose(graph, asked, limits, provenance)

        if not asks_for_time(method, budget):
            return Plan(budget, select(self.graph, budget), self.graph)
        floors = floors_of(self.graph, limits)
        choice, times = within_time(select, self.graph, budget, floors, self._clock)
        return Plan(budget, choice, replace(self.graph, latency=times.table), times)

    def require_reachable(self, budget: Budget, limits: Limits) -> None:
        """Refuse a budget of size below what the limits keep; one of time is measured by `plan`.

        Raises
        ------
        BudgetError : names the least that can be reached.
        """
        check_reachable(self.graph, budget, floors_of(self.graph, limits))

    def needs(self, method: Mipp | None = None, *, tested: bool = False) -> Needs:
        """Bytes and rough seconds of a search by information, right to a factor of two.

        Bytes are those beside the network and its images. Seconds are those of the closed form;
        of another estimator, or a test of significance, none are known.

        Parameters
        ----------
        tested : for a budget of confidence.
        """
        return self._needs(method or Mipp(), tested)[0]

    def _needs(self, method: Mipp, tested: bool) -> tuple[Needs, Mapping[str, Size]]:
        images = self.calibration.count()
        sizes = sizes_of(self.model, self.graph, Sampling(method.rows, images, self.seed))
        batch = count(next(iter(self.calibration.inputs())))
        closed = type(method.estimator) is Gaussian and not tested
        needs = needs_of_search(
            self.graph, sizes, batch, closed=closed, device=device_of(self.model)
        )
        if closed:
            forward = images * self._seconds_per_input
            seconds = seconds_of_search(sizes, forward, device_of(self.model))
            needs = replace(needs, seconds=seconds)
        return needs, sizes

    @contextmanager
    def _estimating(self) -> Iterator[None]:
        """Says of a covariance without an inverse whose it is."""
        try:
            yield
        except SingularCovarianceError as error:
            raise EstimationError(
                f"information in {type(self.model).__name__} cannot be estimated: {error}"
            ) from error

    @cached_property
    def _default(self) -> InformationRanking:
        return InformationRanking(Mipp(), self._estimates(Mipp()))

    def _estimates(self, method: Mipp) -> Estimates:
        key = type(method.estimator), repr(method.estimator), method.rows
        measure = partial(
            measure_information, self.model, self.graph, self.calibration, method, self.seed
        )
        estimates = self._known.get(key)
        if estimates is None:
            estimates = self._known[key] = Estimates(lambda tested: measure(tested=tested))
        return estimates

    def _by_scores(self, method: Criterion) -> ScoreRanking:
        name = name_of(method)
        score = CRITERIA.resolve(name) if isinstance(method.method, str) else method.method
        data = self.calibration
        model = plain(self.model)
        labelled = data.labelled if self.loss else lambda: classified(model, data.labelled())
        given = CriterionInput(model, self.graph, labelled, self.seed, data.inputs, self.loss)
        scores = score_units(name, score, given)
        return ScoreRanking(method, scores)


def _require_one_plan(budget: Budget) -> None:
    if budget.is_searched:
        raise BudgetError(
            f"{option('budget')}={budget} is no budget of one plan.\nExpected one such as "
            f"macs:0.5, got {budget}, for which networks are cut and scored; mipp.prune(model, "
            f"data, '{budget}') does that, so do Pruner.smallest({budget.value:g}, validation) "
            f"and a run with choose.budget={budget}."
        )


def parsed(budget: str | Budget) -> Budget:
    """A budget, whether as a value or as text."""
    return budget if isinstance(budget, Budget) else parse_budget(budget)
