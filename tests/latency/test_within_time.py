"""The loop that corrects a budget of time, under clocks that follow a known law."""

from dataclasses import replace

import numpy as np
import pytest
from oracles import build_small, graph_of, images_for, states_of

from mipp.budget import Budget, parse_budget
from mipp.errors import BudgetError
from mipp.graph.latency import LatencyTable
from mipp.latency import within_time
from mipp.latency.clock import build_curves
from mipp.latency.widths import parts_of
from mipp.latency.within_time import TRIES, next_target
from mipp.selection.by_information import select_by_information
from mipp.selection.by_scores import select_by_criterion
from mipp.selection.limits import floors_of
from mipp.selection.prices import unit_prices
from mipp.selection.spending import spent
from mipp.settings import Criterion, Limits, Mipp


def by_macs(part, inputs, outputs):
    cost = part.cost
    return 1e-6 * cost.macs * inputs * outputs / (cost.in_features * cost.out_features)


def timed(name):
    """The graph with a table in which MACs alone take time."""
    parts = parts_of(build_small(name), graph_of(name), images_for(name, 2))
    return replace(graph_of(name), latency=LatencyTable(build_curves(parts, by_macs)))


class LawClock:
    """Predicts from MACs, and then measures what a law makes of their share."""

    def __init__(self, name, law):
        self.name, self.law, self.seen = name, law, []

    def measured(self, graph):
        self.seen.append("table")
        return timed(self.name)

    def _macs(self, counts):
        graph = graph_of(self.name)
        return graph.macs(counts) / graph.macs(graph.widths)

    def share(self, selection):
        self.seen.append("share")
        return self.law(self._macs(selection.counts()))

    def least_share(self, graph, floors):
        self.seen.append("least")
        return self.law(self._macs(floors))

    def circumstances(self):
        return {"batch": 3, "device": "a law"}


def scores_of(graph, seed=0):
    rng = np.random.default_rng(seed)
    return {group: rng.random(width) for group, width in graph.widths.items()}


def choose_l1(law, budget="latency:0.7", name="resnet20", **fields):
    clock, graph, limits = LawClock(name, law), graph_of(name), Limits(**fields)
    scores, floors = scores_of(graph), floors_of(graph, limits)
    choice, report = within_time(
        lambda graph, asked: select_by_criterion(graph, scores, Criterion("l1"), asked, limits),
        graph,
        parse_budget(budget),
        floors,
        clock,
    )
    return choice.selection, report, clock


LAWS = {
    "as predicted": lambda share: share,
    "overhead": lambda share: 0.3 + 0.7 * share,
    "slower than predicted": lambda share: share**0.5,
    "faster than predicted": lambda share: share**2,
    "steps": lambda share: np.ceil(share * 40) / 40,
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("wanted", [0.5, 0.7, 0.9])
def test_measured_time_comes_close_whatever_the_law(law, wanted):
    selection, report, clock = choose_l1(LAWS[law], f"latency:{wanted}")
    assert clock.share(selection) == pytest.approx(wanted, rel=0.03)
    assert report.best().measured == clock.share(selection)
    assert len(report.tries) <= TRIES
    assert report.wanted == wanted


def test_prediction_that_holds_is_not_corrected():
    selection, report, clock = choose_l1(LAWS["as predicted"])
    assert clock.seen == ["least", "table", "share"]
    (only,) = report.tries
    assert only.target == 0.7
    assert only.predicted == pytest.approx(only.measured)
    graph = graph_of("resnet20")
    share = graph.macs(selection.counts()) / graph.macs(graph.widths)
    assert only.predicted == pytest.approx(share)


def test_nearest_of_all_selections_is_kept():
    noise = iter([1.3, 0.85, 1.2, 0.8, 1.25, 0.9, 1.1])
    _, report, _ = choose_l1(lambda share: 0.0 if share < 0.05 else 0.7 * next(noise))
    errors = [abs(t.measured - 0.7) for t in report.tries]
    assert len(errors) > 1
    assert abs(report.best().measured - 0.7) == min(errors)


def test_budget_below_the_measured_floors_is_refused():
    with pytest.raises(
        BudgetError,
        match=r"(?s)latency:0\.5 .*cannot be reached.*at least latency:0\.62, measured.*relax",
    ):
        choose_l1(lambda share: 0.612 + 0.3 * share, "latency:0.5")


def test_budget_that_only_the_clock_puts_below_the_floors_is_tried():
    floors = dict.fromkeys(graph_of("resnet20").widths, 1)
    selection, report, _ = choose_l1(lambda share: 0.52 + 0.48 * share, "latency:0.5")
    assert selection.counts() == floors
    assert report.best().measured > 0.5


def test_price_of_time_measures_the_table_alone():
    graph, clock = graph_of("lenet5"), LawClock("lenet5", LAWS["overhead"])
    states, budget, method = states_of("lenet5"), Budget("macs", 0.5), Mipp(price="latency")
    choice, report = within_time(
        lambda graph, asked: select_by_information(graph, states, method, asked),
        graph,
        budget,
        floors_of(graph, Limits()),
        clock,
    )
    assert clock.seen == ["table"]
    assert report.tries == ()
    assert report.best() is None
    assert spent(graph, choice.selection.counts(), "macs") <= 0.5
    per_unit, per_mac = (
        select_by_information(graph, states, Mipp(price=price), budget)
        for price in ("unit", "macs")
    )
    assert choice.selection.counts() == per_mac.selection.counts()
    assert choice.selection.counts() != per_unit.selection.counts()


def test_report_is_plain_values():
    _, report, _ = choose_l1(LAWS["overhead"])
    values = report.to_json()
    assert values["batch"] == 3
    assert values["wanted"] == 0.7
    assert [set(t) for t in values["tries"]] == [{"target", "predicted", "measured"}] * len(
        report.tries
    )
    assert {"curves", "scale", "ms_per_element", "ms_constant"} == values["table"].keys()


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([(0.1, 0.4), (1.0, 1.0)], 0.1 + 0.9 * 0.3 / 0.6),
        ([(0.1, 0.4), (1.0, 1.0), (0.7, 0.8)], 0.1 + 0.6 * 0.3 / 0.4),
        ([(0.1, 0.4), (1.0, 1.0), (0.7, 0.8), (0.6, 0.65)], 0.6 + 0.1 / 3),
        ([(0.1, 0.72), (1.0, 1.0)], 0.1),  # the floors, though they are measured above
        ([(0.1, 0.4), (1.0, 0.69)], 1.0),
    ],
)
def test_next_target_is_on_the_line_between_the_nearest_measurements(known, expected):
    assert next_target(0.7, known) == pytest.approx(expected)


# Under a clock that counts MACs a budget of time is one of MACs


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_scores_choose_as_under_a_budget_of_macs(scope, seed):
    graph = timed("resnet20")
    scores, method = scores_of(graph, seed), Criterion("random", scope)
    by_time, by_work = (
        select_by_criterion(graph, scores, method, parse_budget(b)).selection.kept
        for b in ("latency:0.5", "macs:0.5")
    )
    # tables hold no width under a sixteenth, which no group comes near here
    assert {g: k.tolist() for g, k in by_time.items()} == {
        g: k.tolist() for g, k in by_work.items()
    }


def test_information_meets_a_budget_of_time():
    graph = timed("lenet5")
    choice = select_by_information(graph, states_of("lenet5"), Mipp(), Budget("latency", 0.5))
    counts = choice.selection.counts()
    share = graph.macs(counts) / graph.macs(graph.widths)
    assert 0.45 < share <= 0.5
    one_more = [{**counts, g: n + 1} for g, n in counts.items() if n < graph.widths[g]]
    assert min(spent(graph, more, "latency") for more in one_more) > 0.5


@pytest.mark.parametrize("multiple", [4, 8])
def test_rounding_keeps_within_the_time(multiple):
    graph = timed("resnet20")
    method, budget, limits = Criterion("l1"), Budget("latency", 0.6), Limits(round_to=multiple)
    counts = select_by_criterion(graph, scores_of(graph), method, budget, limits).selection.counts()
    assert spent(graph, counts, "latency") <= 0.6
    assert all(n % multiple == 0 for n in counts.values())


def test_prices_of_time_are_those_of_macs_but_never_free():
    graph = timed("lenet5")
    time, work = unit_prices(graph, "latency"), unit_prices(graph, "macs")
    mean = sum(time[g] * w for g, w in graph.widths.items()) / sum(graph.widths.values())
    assert mean == pytest.approx(1)
    assert time["conv1"] / time["conv2"] == pytest.approx(work["conv1"] / work["conv2"])
    assert time["conv1"] / time["fc1"] == pytest.approx(work["conv1"] / work["fc1"])
    assert work["fc2"] < 0.045
    assert time["fc2"] == pytest.approx(0.05, rel=0.02)


def test_clock_that_sees_nothing_prices_all_units_alike():
    graph = replace(graph_of("lenet5"), latency=LatencyTable({}, constant=1.0))
    assert [*unit_prices(graph, "latency").values()] == pytest.approx([1.0] * len(graph.widths))
