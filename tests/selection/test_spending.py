"""Budgets: met, nearly used up, refused where out of reach; by information and by scores."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import build_small, graph_of, images_for, small_spec, states_of

from mipp.budget import Budget, parse_budget
from mipp.cut import apply_selection
from mipp.errors import BudgetError
from mipp.metrics import count_macs, count_params
from mipp.selection.by_information import select_by_information
from mipp.selection.by_scores import select_by_criterion
from mipp.selection.prices import prices_of, unit_prices
from mipp.selection.search import Probe, find_threshold
from mipp.selection.selection import Selection
from mipp.settings import Criterion, Limits, Mipp

NETWORKS = ("lenet5", "resnet20")
BUDGETS = ("ratio:0.5", "params:0.3", "macs:0.5")


@functools.cache
def choose(name, budget, *, min_channels=1, **fields):
    asked, limits = parse_budget(budget), Limits(min_channels=min_channels)
    return select_by_information(graph_of(name), states_of(name), Mipp(**fields), asked, limits)


def random_scores(graph, seed):
    rng = np.random.default_rng(seed)
    return {group: rng.random(width) for group, width in graph.widths.items()}


def remaining(name, kept, kind):
    """Share of the dense network that is left, measured on the network that surgery makes."""
    if kind == "ratio":
        return sum(map(len, kept.values())) / sum(graph_of(name).widths.values())
    dense, shape = build_small(name), images_for(name, 1).shape[1:]
    selection = Selection(kept, dict(graph_of(name).widths), "test")
    pruned = apply_selection(dense, selection, images_for(name, 1))
    if kind == "params":
        return count_params(pruned) / count_params(dense)
    return count_macs(pruned.float(), shape) / count_macs(dense.float(), shape)


def allowed(budget):
    kind, value = budget.split(":")
    return kind, 1 - float(value) if kind == "ratio" else float(value)


def dearest_unit(graph, kind):
    """Largest share that one channel of any group takes."""
    if kind == "ratio":
        return 1 / sum(graph.widths.values())
    count = graph.params if kind == "params" else graph.macs
    full = count(graph.widths)
    return max(1 - count({**graph.widths, g: w - 1}) / full for g, w in graph.widths.items())


def floors_at(graph, floor):
    return {group: min(floor, width) for group, width in graph.widths.items()}


def scored(graph, budget, *, seed=0, scope="global", floor=1):
    scores = random_scores(graph, seed)
    return scores, kept_by_scores(scores, graph, parse_budget(budget), scope, floor)


def kept_by_scores(scores, graph, budget, scope="global", floor=1):
    method, limits = Criterion("random", scope), Limits(min_channels=floor)
    return select_by_criterion(graph, scores, method, budget, limits).selection.kept


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(
    ("name", "order"), [(n, "mi") for n in NETWORKS] + [("lenet5", "best-first")]
)
def test_information_meets_a_budget_and_uses_it_up(name, budget, order):
    kind, share = allowed(budget)
    left = remaining(name, choose(name, budget, order=order).selection.kept, kind)
    assert left <= share + 1e-12
    assert left >= share - max(0.02 * share, dearest_unit(graph_of(name), kind))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_dropped_unit_fits_into_what_is_left(name):
    graph, counts = graph_of(name), choose(name, "macs:0.5").selection.counts()
    more = [{**counts, g: counts[g] + 1} for g, width in graph.widths.items() if counts[g] < width]
    assert more
    assert min(graph.macs(kept) for kept in more) > 0.5 * graph.macs(graph.widths)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_meet_a_budget_to_the_unit(name, budget, seed):
    kind, share = allowed(budget)
    left = remaining(name, scored(graph_of(name), budget, seed=seed)[1], kind)
    assert share - dearest_unit(graph_of(name), kind) <= left <= share + 1e-12


def test_tighter_budgets_keep_fewer_units():
    budgets = ["ratio:0.1", "ratio:0.3", "ratio:0.5", "ratio:0.9"]
    counts = [sum(choose("lenet5", b).selection.counts().values()) for b in budgets]
    assert counts == sorted(set(counts), reverse=True)


def test_ratio_zero_keeps_everything():
    assert choose("lenet5", "ratio:0").selection.units_removed() == 0
    graph = graph_of("lenet5")
    assert {g: len(k) for g, k in scored(graph, "ratio:0")[1].items()} == graph.widths


def test_nats_budget_is_the_threshold_itself():
    choice = choose("lenet5", "nats:0.3", price="unit")
    verdicts = [v for vs in choice.walk.verdicts.values() for v in vs if v.why != "floor"]
    assert {v.kept for v in verdicts} == {True, False}
    assert all(v.kept == (v.conditional >= 0.3) for v in verdicts)


@pytest.mark.parametrize(
    ("budget", "least"),
    # by hand, one channel each: conv1 28*28*25 + conv2 10*10*25 + fc1 25 + fc2 1 + fc3 10 MACs
    [("macs:0.01", "macs:0.05"), ("params:0.001", "params:0.001"), ("ratio:0.99", "ratio:0.982")],
)
def test_unreachable_budget_names_the_least_reachable(budget, least):
    with pytest.raises(BudgetError, match=rf"Expected at (least|most) {least}"):
        scored(graph_of("lenet5"), budget)


@pytest.mark.parametrize("kind", ["macs", "params", "ratio"])
@pytest.mark.parametrize("name", NETWORKS)
def test_least_reachable_budget_that_is_named_can_be_reached(name, kind):
    beyond = Budget(kind, 1e-9 if kind != "ratio" else 1 - 1e-9)
    graph = graph_of(name)
    with pytest.raises(BudgetError) as refused:
        kept_by_scores(random_scores(graph, 0), graph, beyond)
    named = str(refused.value).split("Expected at ")[1].split()[1]
    # rounding the share up leaves room for a few more than one a group
    assert set(map(len, scored(graph, named)[1].values())) <= {1, 2, 3}


def test_information_refuses_an_unreachable_budget():
    with pytest.raises(BudgetError, match=r"24 units that min_channels, (.|\n)*4 prunable groups"):
        choose("lenet5", "macs:0.2", min_channels=6)


def test_scores_refuse_a_bound_on_information():
    with pytest.raises(BudgetError, match=r"only method=mipp measures"):
        scored(graph_of("lenet5"), "nats:0.1")


@pytest.mark.parametrize(("name", "keep"), [("lenet-300-100", 40), ("lenet5-caffe", 57)])
def test_ratio_removes_no_more_units_than_asked(name, keep):
    # 400 units less 90 % is 40, and 570 less 90 % is 57: both are whole numbers of units
    assert sum(map(len, scored(graph_of(name), "ratio:0.9")[1].values())) == keep


def test_highest_scores_are_kept(seed):
    scores, kept = scored(graph_of("resnet20"), "ratio:0.4", seed=seed, floor=0)
    lowest = min(scores[group][channels].min() for group, channels in kept.items())
    dropped = [np.delete(scores[group], channels) for group, channels in kept.items()]
    assert np.concatenate(dropped).max() < lowest


def test_layer_scope_takes_an_equal_share_of_every_group(seed):
    graph = graph_of("resnet20")
    scores, kept = scored(graph, "macs:0.5", seed=seed, scope="layer")
    shares = {group: len(channels) / graph.widths[group] for group, channels in kept.items()}
    assert max(shares.values()) - min(shares.values()) <= 1 / min(graph.widths.values())
    for group, channels in kept.items():
        best = np.argsort(scores[group])[graph.widths[group] - len(channels) :]
        assert sorted(best) == channels.tolist()


def test_global_scope_does_not_take_equal_shares(seed):
    graph = graph_of("resnet20")
    scores = random_scores(graph, seed)
    scores["conv1"] += 1
    budget = parse_budget("ratio:0.5")
    kept = kept_by_scores(scores, graph, budget)
    assert len(kept["conv1"]) == graph.widths["conv1"]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_of_equal_scores_the_lower_index_goes_first(scope):
    graph = graph_of("lenet5")
    scores = {group: np.ones(width) for group, width in graph.widths.items()}
    budget = parse_budget("ratio:0.5")
    for group, kept in kept_by_scores(scores, graph, budget, scope).items():
        width = graph.widths[group]
        assert kept.tolist() == list(range(width - len(kept), width))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    name=st.sampled_from(NETWORKS),
    kind=st.sampled_from(["ratio", "params", "macs"]),
    share=st.floats(0.01, 0.99),
    scope=st.sampled_from(["global", "layer"]),
    floor=st.integers(0, 4),
)
def test_scores_never_break_budget_or_floor(seed, name, kind, share, scope, floor):
    graph = graph_of(name)
    budget = Budget(kind, 1 - share if kind == "ratio" else share)
    try:
        kept = kept_by_scores(random_scores(graph, seed), graph, budget, scope, floor)
    except BudgetError:
        least = floors_at(graph, floor)
        kept = {group: range(count) for group, count in least.items()}
        assert cost(graph, kept, kind) > share
        return
    assert cost(graph, kept, kind) <= share + 1e-12
    assert min(map(len, kept.values())) >= floor
    assert all(np.all(np.diff(channels) > 0) for channels in kept.values())


def cost(graph, kept, kind):
    counts = {group: len(channels) for group, channels in kept.items()}
    if kind == "ratio":
        return sum(counts.values()) / sum(graph.widths.values())
    count = graph.params if kind == "params" else graph.macs
    return count(counts) / count(graph.widths)


def test_unit_prices_are_what_a_channel_saves():
    # LeNet-5 at 28 pixels, MACs by hand: what one channel costs in its own layer and in the next
    saved = {
        "conv1": 28 * 28 * 25 + 10 * 10 * 25 * 16,
        "conv2": 10 * 10 * 25 * 6 + 25 * 120,
        "fc1": 400 + 84,
        "fc2": 120 + 10,
    }
    prices = unit_prices(graph_of("lenet5"), "macs")
    assert {g: p / prices["fc2"] for g, p in prices.items()} == pytest.approx(
        {g: s / saved["fc2"] for g, s in saved.items()}
    )


@pytest.mark.parametrize("price", ["unit", "params", "macs"])
def test_mean_price_of_a_unit_is_one(price):
    graph = graph_of("resnet20")
    prices = unit_prices(graph, price)
    total = sum(prices[group] * width for group, width in graph.widths.items())
    assert total == pytest.approx(sum(graph.widths.values()))


def test_budget_price_is_that_of_the_budget():
    same = choose("lenet5", "macs:0.5", price="macs").selection
    other = choose("lenet5", "macs:0.5", price="unit").selection
    assert choose("lenet5", "macs:0.5").selection.to_json() == same.to_json()
    assert other.counts() != same.counts()


def test_units_of_more_parameters_are_cheaper_where_all_cost_the_same():
    # LeNet-5 at 28 pixels, by hand: parameters that go with one channel
    params = {"conv1": 26 + 25 * 16, "conv2": 151 + 25 * 120, "fc1": 401 + 84, "fc2": 121 + 10}
    method, graph = Mipp(param_weight=0.5), graph_of("lenet5")
    prices = prices_of(graph, method, parse_budget("ratio:0.5"))
    assert {g: prices["fc2"] / p for g, p in prices.items()} == pytest.approx(
        {g: (count / params["fc2"]) ** 0.5 for g, count in params.items()}
    )


@pytest.mark.parametrize("budget", ["macs:0.5", "params:0.5", "nats:0.3"])
def test_parameters_weigh_nothing_where_units_differ_in_price_or_nats_are_asked_for(budget):
    graph, parsed = graph_of("lenet5"), parse_budget(budget)
    light, heavy = (prices_of(graph, Mipp(param_weight=w), parsed) for w in (0.0, 1.0))
    assert light == heavy


@pytest.mark.parametrize("suggestion", [0.0, 63.0, 5.0, 99.0])
def test_smallest_threshold_that_fits_is_found(suggestion):
    def probe(threshold):
        return Probe(threshold, 1 - min(threshold, 100) / 100, suggestion)

    threshold, outcome = find_threshold(probe, 0.37, 1e3)
    assert threshold == outcome == pytest.approx(63, rel=0.01)
    assert outcome >= 63 - 1e-9


@pytest.mark.parametrize("allowed", [0.5, 0.3, 0.1])
@pytest.mark.parametrize("reach", [0.5, 0.8, 1.2, 2.0])
def test_few_walks_find_the_threshold_whether_suggestions_fall_short_or_go_too_far(reach, allowed):
    """What is spent is 1 / (1 + threshold); a suggestion goes `reach` of the way there."""
    walks = []

    def probe(threshold):
        walks.append(threshold)
        right = 1 / allowed - 1
        there = right * (threshold / right) ** (1 - reach) if threshold else right * reach**2
        return Probe(threshold, 1 / (1 + threshold), there)

    threshold, outcome = find_threshold(probe, allowed, 1e6)
    assert threshold == pytest.approx(outcome)
    assert allowed * 0.97 <= 1 / (1 + threshold) <= allowed
    assert len(walks) <= 7


def test_a_jump_in_what_is_spent_is_found_from_above():
    def probe(threshold):
        return Probe(threshold, 1.0 if threshold < 2 else 0.1, 1.0)

    threshold, _ = find_threshold(probe, 0.5, 1e3)
    assert 2 <= threshold < 2 * 1.006


@pytest.mark.parametrize("order", ["mi", "best-first"])
def test_every_unit_has_a_row_that_says_why(order):
    choice = choose("lenet5", "macs:0.5", order=order)
    rows = choice.units()
    units = [(group, c) for group, width in graph_of("lenet5").widths.items() for c in range(width)]
    assert sorted((row["group"], row["channel"]) for row in rows) == sorted(units)
    kept = {(row["group"], row["channel"]) for row in rows if row["kept"]}
    assert kept == {(g, c) for g, channels in choice.selection.kept.items() for c in channels}


def test_groups_at_their_floor_are_named_near_collapsed():
    choice = choose("lenet5", "nats:1000", min_channels=2)
    assert choice.near_collapsed() == ["fc2", "fc1", "conv2", "conv1"]
    assert set(choice.selection.counts().values()) == {2}
    assert choose("lenet5", "ratio:0.1").near_collapsed() == []


def test_selection_says_what_it_was_made_for():
    spec = small_spec("lenet5")
    choice = select_by_information(
        graph_of("lenet5"),
        states_of("lenet5"),
        Mipp(),
        Budget("macs", 0.5),
        provenance={"seed": "3", "model": spec.name},
    )
    assert choice.selection.method == "mipp"
    assert choice.selection.width == {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}
    assert choice.selection.provenance == {"seed": "3", "model": "lenet5"}
