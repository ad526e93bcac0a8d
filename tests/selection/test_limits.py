"""What stays of a group whatever it adds: floors, limits, modules left alone, rounded widths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import graph_of, states_of

from mipp.budget import Budget
from mipp.errors import ConfigError
from mipp.selection.by_information import select_by_information
from mipp.selection.by_scores import ScoreChoice, select_by_criterion
from mipp.selection.limits import floors_of
from mipp.selection.rounding import Ranked, round_widths
from mipp.selection.selection import Selection
from mipp.selection.spending import spent
from mipp.settings import Criterion, Limits, Mipp

LENET = {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}
METHODS = ("mipp", "l1")


def counts_of(method, **choices):
    """Kept units per group of LeNet-5 under macs:0.5."""
    graph, limits, budget = graph_of("lenet5"), Limits(**choices), Budget("macs", 0.5)
    if method == "mipp":
        choice = select_by_information(graph, states_of("lenet5"), Mipp(), budget, limits)
        return choice.selection.counts()
    rng = np.random.default_rng(0)
    scores = {group: rng.normal(size=width) for group, width in graph.widths.items()}
    choice = select_by_criterion(graph, scores, Criterion(method), budget, limits)
    return choice.selection.counts()


def floors(**choices):
    return floors_of(graph_of("lenet5"), Limits(**choices))


def test_floor_is_the_least_of_every_group_at_most_its_width():
    assert floors(min_channels=10) == {"conv1": 6, "conv2": 10, "fc1": 10, "fc2": 10}


def test_floor_is_rounded_up_to_the_multiple():
    assert floors(min_channels=5, round_to=4) == {"conv1": 6, "conv2": 8, "fc1": 8, "fc2": 8}


@pytest.mark.parametrize(
    ("choices", "whole"),
    [
        ({"ignore": ["conv2"]}, {"conv1", "conv2"}),  # its inputs and its outputs
        ({"keep_outputs": ["conv2"]}, {"conv2"}),
        ({"keep_inputs": ["conv2"]}, {"conv1"}),
        ({"keep_inputs": ["fc3"]}, {"fc2"}),
        ({"keep_outputs": ["fc3"]}, set()),  # the network's outputs stay anyway
        ({"ignore": ["fc*"]}, {"conv2", "fc1", "fc2"}),
        ({"ignore": ["conv?"], "keep_inputs": ["fc3"]}, {"conv1", "conv2", "fc2"}),
    ],
)
def test_groups_of_modules_left_alone_are_whole(choices, whole):
    found = floors(**choices)
    assert {group for group, floor in found.items() if floor == LENET[group]} == whole


def test_limit_is_the_greatest_share_that_goes():
    found = floors(limits={"fc*": 0.3, "conv1": 0.5})
    assert found == {"conv1": 3, "conv2": 1, "fc1": 84, "fc2": 59}  # 58.8 rounded up


@pytest.mark.parametrize("key", ["ignore", "keep_outputs", "keep_inputs"])
def test_pattern_that_fits_nothing_is_refused(key):
    with pytest.raises(ConfigError, match=rf"^{key}: pattern 'conv22' (.|\n)*did you mean"):
        floors(**{key: ["conv22"]})
    with pytest.raises(ConfigError, match=r"^limits: pattern 'nothing\*'"):
        floors(limits={"nothing*": 0.5})


@pytest.mark.parametrize("method", METHODS)
def test_methods_respect_limits_and_still_meet_the_budget(method):
    found = counts_of(method, keep_inputs=["conv2"], limits={"fc2": 0.25})
    assert found["conv1"] == 6
    assert found["fc2"] >= 63
    assert spent(graph_of("lenet5"), found, "macs") <= 0.5


@pytest.mark.parametrize("multiple", [2, 3, 4])
@pytest.mark.parametrize("method", METHODS)
def test_widths_are_multiples_within_the_budget(method, multiple):
    found = counts_of(method, round_to=multiple)
    for group, count in found.items():
        assert count % multiple == 0 or count == LENET[group]
    assert spent(graph_of("lenet5"), found, "macs") <= 0.5
    for group, width in LENET.items():  # and no block more would fit
        more = {**found, group: min((found[group] // multiple + 1) * multiple, width)}
        assert more == found or spent(graph_of("lenet5"), more, "macs") > 0.5


def test_unit_kept_by_a_limit_is_no_near_collapse():
    graph, limits = graph_of("lenet5"), Limits(limits={"fc1": 0.9})
    budget = Budget("nats", 1000)
    choice = select_by_information(graph, states_of("lenet5"), Mipp(), budget, limits)
    why = {row["group"]: row["why"] for row in choice.units() if row["kept"]}
    assert why == {"conv1": "floor", "conv2": "floor", "fc1": "limit", "fc2": "floor"}
    assert sorted(choice.near_collapsed()) == ["conv1", "conv2", "fc2"]
    assert choice.selection.counts()["fc1"] == 12


def test_without_a_bound_on_size_widths_are_rounded_up():
    graph, states = graph_of("lenet5"), states_of("lenet5")
    method, budget = Mipp(order="mi"), Budget("nats", 0.1)
    plain = select_by_information(graph, states, method, budget)
    rounded = select_by_information(graph, states, method, budget, Limits(round_to=8))
    for group, kept in plain.selection.kept.items():
        more = rounded.selection.kept[group]
        assert len(more) == min(-(-len(kept) // 8) * 8, LENET[group])
        assert set(kept) <= set(more)
    why = [row["why"] for row in rounded.units() if row["kept"]]
    assert len(why) - why.count("rounded") - why.count("floor") == 30  # conv2 is at its floor
    assert plain.selection.counts() == {"fc2": 10, "fc1": 14, "conv2": 1, "conv1": 6}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), multiple=st.integers(1, 16), share=st.floats(0.2, 1))
def test_rounding_never_breaks_a_budget_nor_a_floor(seed, multiple, share):
    graph, rng = graph_of("lenet5"), np.random.default_rng(seed)
    floor = floors(round_to=multiple)
    budget = Budget("macs", share)
    counts = {g: int(rng.integers(floor[g], width + 1)) for g, width in LENET.items()}
    if spent(graph, counts, "macs") > share or spent(graph, floor, "macs") > share:
        return
    ranked = {g: [Ranked(c, float(rng.random())) for c in range(w)] for g, w in LENET.items()}
    found = round_widths(graph, ranked, counts, floor, budget, multiple)
    assert spent(graph, found, "macs") <= share + 1e-9
    for group, count in found.items():
        assert count >= floor[group]
        assert multiple == 1 or count % multiple == 0 or count == LENET[group]


def test_group_at_its_floor_is_named_unless_it_lost_nothing():
    kept = {"conv1": np.arange(6), "conv2": np.arange(8), "fc1": np.arange(9), "fc2": np.arange(7)}
    selection = Selection(kept, LENET, "l1")
    floor = {"conv1": 6, "conv2": 8, "fc1": 8, "fc2": 8}
    choice = ScoreChoice(selection, {}, {}, "global", {}, floor)
    assert choice.near_collapsed() == ["conv2", "fc2"]
