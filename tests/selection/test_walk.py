"""The walk from the outputs to the inputs: which targets count when, and for how much."""

import numpy as np
import pytest
import torch
from oracles import build_small, graph_of, images_for, states_of

from mipp.budget import Budget, parse_budget
from mipp.selection.by_information import order_of, select_by_information
from mipp.selection.rules import Threshold
from mipp.selection.walk import Course, total_information, walk_network
from mipp.settings import Gaussian, Mipp, Reconstruction


class RecordedInformation:
    """Nats per channel and target row that nothing changes; remembers the targets asked for."""

    def __init__(self, pair, seed):
        rng = np.random.default_rng([seed, *pair.name.encode()])
        self.nats = torch.from_numpy(rng.random((len(pair.features), pair.targets)))
        self.asked = []

    def single(self, targets):
        self.asked.append(targets.tolist())
        return self.nats[:, targets].sum(1)

    def joint(self, targets):
        return float(self.nats[:, targets].sum())

    def eliminate(self, targets):
        self.asked.append(targets.tolist())
        return Additive(self.nats[:, targets].sum(1))

    def eliminate_in_order(self, targets, order):
        return self.eliminate(targets)


class Additive:
    def __init__(self, nats):
        self.nats = nats

    def loss(self, channel):
        return float(self.nats[channel])

    def losses(self):
        return self.nats

    def consider(self, channels):
        pass

    def drop(self, channel):
        pass

    settle = drop


def walk_recorded(name, seed, *, threshold=None, order="mi", prices=None, floor=1, weight=0.0):
    """The graph, its recorded information and the walk; half of the channels go by default."""
    graph = graph_of(name)
    information = {pair.name: RecordedInformation(pair, seed) for pair in graph.pairs}
    if threshold is None:
        pair = graph.pairs[len(graph.pairs) // 2]
        threshold = float(information[pair.name].nats.sum(1).median())
    prices = prices or dict.fromkeys(graph.groups, 1.0)

    def rule_of(group, passing):
        return Threshold(threshold * prices[group])

    course = Course(order, dict.fromkeys(graph.groups, floor), weight)
    totals = dict.fromkeys(graph.groups, 1.0)
    return graph, information, walk_network(graph, information, course, rule_of, totals)


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_groups_are_decided_latest_consumer_first(name, seed):
    graph, _, walk = walk_recorded(name, seed)
    model, executed = build_small(name), []
    for module, layer in model.named_modules():
        layer.register_forward_hook(lambda *_, module=module: executed.append(module))
    model(images_for(name, 1))
    latest = [
        max(executed.index(pair.consumer) for pair in graph.pairs_of(group))
        for group in walk.verdicts
    ]
    assert latest == sorted(latest, reverse=True)


def test_chain_is_walked_from_the_last_pair(seed):
    _, _, walk = walk_recorded("lenet5", seed)
    assert list(walk.verdicts) == ["fc2", "fc1", "conv2", "conv1"]


@pytest.mark.parametrize("order", ["mi", "best-first"])
def test_targets_of_a_decided_group_are_its_kept_channels(order, seed):
    _, information, walk = walk_recorded("lenet5", seed, order=order)
    kept = walk.kept()
    assert 0 < len(kept["fc1"]) < 120
    assert information["conv2--fc1"].asked == [kept["fc1"]] * 2
    assert information["fc2--fc3"].asked == [list(range(10))] * 2


def test_targets_of_an_undecided_group_all_count(seed):
    graph, information, walk = walk_recorded("resnet20", seed)
    stream, inner = "layer3.0.conv2", "layer3.1.conv1"
    assert list(graph.groups).index(stream) < list(graph.groups).index(inner)
    # the block reads the stream before, and writes to it after, the stream is decided
    assert information[f"{stream}--{inner}"].asked == [list(range(64))] * 2
    assert information[f"{inner}--layer3.1.conv2"].asked == [walk.kept()[stream]] * 2


def test_every_pair_is_asked_for_the_rows_that_still_stand(seed):
    graph, information, walk = walk_recorded("resnet20", seed)
    decided = set()
    for group in graph.groups:
        for pair in graph.pairs_of(group):
            [owner, channel] = next(iter(pair.owners.items()), ("", range(pair.targets)))
            kept = walk.kept().get(owner, [])
            rows = [j for j in range(pair.targets) if owner not in decided or channel[j] in kept]
            assert information[pair.name].asked == [rows] * 2
        decided.add(group)


STREAM = {  # consumers of the first stream at 32 pixels, with the positions of their maps
    "layer1.0.conv1": 1024,
    "layer1.1.conv1": 1024,
    "layer1.2.conv1": 1024,
    "layer2.0.conv1": 256,
    "layer2.0.shortcut": 256,
}


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_information_of_a_stream_is_the_sum_over_its_consumers(weight, seed):
    _, information, walk = walk_recorded("resnet20", seed, weight=weight)
    expected = 0
    for consumer, positions in STREAM.items():
        pair = information[f"conv1--{consumer}"]
        expected += positions**weight * pair.nats[:, pair.asked[0]].sum(1)
    for verdict in walk.verdicts["conv1"]:
        assert verdict.single == pytest.approx(float(expected[verdict.channel]))
        assert verdict.conditional == pytest.approx(float(expected[verdict.channel]))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_total_information_counts_every_target(weight, seed):
    graph, information, _ = walk_recorded("resnet20", seed)
    totals = total_information(graph, information, weight)
    stream = [
        positions**weight * information[f"conv1--{consumer}"].nats.sum()
        for consumer, positions in STREAM.items()
    ]
    assert list(totals) == list(graph.groups)
    assert totals["conv1"] == pytest.approx(float(sum(stream)))


def test_threshold_is_nats_per_price(seed):
    prices = {"fc2": 1.0, "fc1": 2.0, "conv2": 0.5, "conv1": 0.0}
    _, _, walk = walk_recorded("lenet5", seed, threshold=4.0, prices=prices, floor=0)
    for group, verdicts in walk.verdicts.items():
        for verdict in verdicts:
            assert verdict.kept == (verdict.conditional >= 4.0 * prices[group])


def test_walk_of_an_emptied_group_empties_what_feeds_it(seed):
    prices = {"fc2": 1.0, "fc1": 1e9, "conv2": 1.0, "conv1": 0.0}
    _, _, walk = walk_recorded("lenet5", seed, threshold=1e-6, prices=prices, floor=0)
    assert walk.counts() == {"fc2": 84, "fc1": 0, "conv2": 0, "conv1": 6}


def passing_of(name, seed, keep):
    """What each group's rule is told passes, and the walk; channels stay that add `keep` nats."""
    graph = graph_of(name)
    information = {pair.name: RecordedInformation(pair, seed) for pair in graph.pairs}
    told = {}

    def rule_of(group, passing):
        told[group] = passing
        return Threshold(keep)

    course = Course("mi", dict.fromkeys(graph.groups, 0))
    totals = total_information(graph, information, 0.0)
    return graph, totals, told, walk_network(graph, information, course, rule_of, totals)


def left(walk, group):
    return sum(v.conditional for v in walk.verdicts[group] if v.kept)


def test_in_a_chain_a_groups_narrowest_cut_is_itself(seed):
    _, _, told, _ = passing_of("lenet5", seed, keep=3.0)
    for passing in told.values():
        assert passing.cut == passing.group


def test_rows_that_are_gone_do_not_pass(seed):
    _, totals, told, walk = passing_of("lenet5", seed, keep=3.0)
    assert told["fc2"].group == pytest.approx(totals["fc2"])
    kept = len(walk.kept()["fc2"])
    assert 0 < kept < 84
    assert told["fc1"].group < totals["fc1"]


def test_what_a_stream_carries_passes_beside_a_block(seed):
    _, totals, told, walk = passing_of("resnet20", seed, keep=3.0)
    for stream, blocks in (
        ("layer3.0.conv2", ["layer3.1.conv1", "layer3.2.conv1"]),
        ("layer2.0.conv2", ["layer2.1.conv1", "layer2.2.conv1", "layer3.0.conv1"]),
    ):
        for block in blocks:
            assert told[block].cut == pytest.approx(told[block].group + left(walk, stream))
        assert told[stream].cut == pytest.approx(told[stream].group)
    # the first stream is read by the shortcut after the block has been written, and decided later
    assert told["layer2.0.conv1"].cut == pytest.approx(
        told["layer2.0.conv1"].group + totals["conv1"]
    )


@pytest.mark.parametrize(
    ("method", "budget", "order"),
    [
        (Mipp(), "macs:0.5", "best-first"),
        (Mipp(), "nats:0.1", "best-first"),
        (Mipp(), "confidence:95", "mi"),
        (Mipp(Reconstruction()), "macs:0.5", "mi"),
        (Mipp(Gaussian(), order="mi"), "macs:0.5", "mi"),
        (Mipp(Reconstruction(), order="best-first"), "macs:0.5", "best-first"),
    ],
)
def test_units_are_ordered_anew_unless_each_is_asked_about_once(method, budget, order):
    assert order_of(method, parse_budget(budget)) == order


def test_order_left_to_us_is_the_one_that_order_of_names():
    graph, states = graph_of("lenet5"), states_of("lenet5")
    ours, named, other = (
        select_by_information(graph, states, Mipp(order=order), Budget("ratio", 0.8))
        for order in ("auto", "best-first", "mi")
    )
    assert ours.units() == named.units()
    assert ours.units() != other.units()


class Cold:
    """The same answers, of which none starts from what others left."""

    def __init__(self, state):
        self.single, self.joint = state.single, state.joint
        self.eliminate = state.eliminate


@pytest.mark.parametrize("name", ["lenet5", pytest.param("resnet20", marks=pytest.mark.slow)])
@pytest.mark.parametrize("budget", ["macs:0.3", "params:0.6"])
def test_walks_that_start_from_others_choose_the_same_units(name, budget):
    graph, states = graph_of(name), states_of(name)
    warm, cold = (
        select_by_information(graph, information, Mipp(), parse_budget(budget))
        for information in (states, {pair: Cold(state) for pair, state in states.items()})
    )
    assert {g: k.tolist() for g, k in warm.selection.kept.items()} == {
        g: k.tolist() for g, k in cold.selection.kept.items()
    }
    assert warm.threshold == pytest.approx(cold.threshold, rel=1e-9)
