"""Channel groups: what is found, what is left whole, and what it all costs."""

import numpy as np
import pytest
import torch
from oracles import (
    BUILT,
    MIXERS,
    OWN_INPUT,
    OWN_NETWORKS,
    Net,
    build_own,
    build_small,
    dropped_channels_zeroed,
    graph_of,
    images_for,
    mixing_network,
    own_images,
    random_selection,
)
from torch import nn

from mipp.cut import apply_selection
from mipp.errors import ModelError
from mipp.graph import build_graph
from mipp.metrics import count_macs, count_params
from mipp.selection.selection import Selection


def assert_costs_match(graph, kept, model, shape):
    model.float()
    assert graph.params(kept) == count_params(model)
    assert graph.macs(kept) == count_macs(model, shape)


def graph_of_own(name):
    return build_graph(build_own(name), own_images(1))


@pytest.mark.parametrize("name", BUILT)
def test_graph_counts_what_the_network_costs(name):
    graph = graph_of(name)
    assert_costs_match(graph, graph.widths, build_small(name), images_for(name, 1).shape[1:])


@pytest.mark.parametrize("name", BUILT)
def test_graph_predicts_what_the_pruned_network_costs(name, seed):
    graph, images = graph_of(name), images_for(name, 1)
    selection = random_selection(graph, seed)
    pruned = apply_selection(build_small(name), selection, images)
    assert_costs_match(graph, selection.counts(), pruned, images.shape[1:])


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_graph_predicts_what_an_own_pruned_network_costs(name, seed):
    graph = graph_of_own(name)
    selection = random_selection(graph, seed)
    pruned = apply_selection(build_own(name), selection, own_images(1))
    assert_costs_match(graph, selection.counts(), pruned, OWN_INPUT)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("lenet-300-100", 266_610, 266_200),
        ("lenet5", 61_706, 416_520),
        ("resnet20", 269_722, 40_551_040),
    ],
)
def test_full_cost_is_the_hand_count(name, params, macs):
    graph = graph_of(name)
    assert (graph.params(graph.widths), graph.macs(graph.widths)) == (params, macs)


def test_lenet5_is_ordered_as_in_the_paper():
    graph = graph_of("lenet5")
    assert list(graph.groups) == ["fc2", "fc1", "conv2", "conv1"]
    assert [pair.name for pair in graph.pairs] == [
        "fc2--fc3",
        "fc1--fc2",
        "conv2--fc1",
        "conv1--conv2",
    ]
    assert [[*pair.owners] for pair in graph.pairs] == [[], ["fc2"], ["fc1"], ["conv2"]]


def test_flattened_channel_owns_all_its_positions():
    pair = graph_of("lenet5").pairs_of("conv2")[0]
    np.testing.assert_array_equal(pair.features, np.arange(400).reshape(16, 25))
    assert pair.kind == "linear"


def test_positions_are_those_of_the_output_map():
    positions = {pair.consumer: pair.positions for pair in graph_of("lenet5").pairs}
    assert positions == {"conv2": 100, "fc1": 1, "fc2": 1, "fc3": 1}
    assert {pair.positions for pair in graph_of_own("tokens").pairs} == {64, 1}


def test_target_rows_belong_to_their_owners_channels():
    for pair in graph_of("lenet5").pairs[1:]:
        [channel] = pair.owners.values()
        assert channel.tolist() == list(range(pair.targets))


def test_resnet20_has_three_streams_and_nine_inner_groups():
    graph = graph_of("resnet20")
    streams = {"conv1": 16, "layer2.0.conv2": 32, "layer3.0.conv2": 64}
    inner = {f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)}
    assert graph.groups.keys() == streams.keys() | inner
    assert {group: graph.widths[group] for group in streams} == streams


def test_stream_has_all_its_members():
    stream = graph_of("resnet20").groups["layer2.0.conv2"]
    producers = {member.module for member in stream.producers}
    blocks = {f"layer2.{block}.conv2" for block in (0, 1, 2)}
    assert producers == blocks | {"layer2.0.shortcut"}
    assert {member.module for member in stream.consumers} == {
        "layer2.1.conv1",
        "layer2.2.conv1",
        "layer3.0.conv1",
        "layer3.0.shortcut",
    }
    assert {member.module for member in stream.passengers} == {
        block.replace("conv", "bn") for block in blocks
    }


def test_batch_norm_that_follows_is_known():
    graph = graph_of("resnet20")
    assert graph.norm_after["layer1.0.conv1"] == "layer1.0.bn1"
    assert len(graph.norm_after) == 19
    assert graph_of("lenet5").norm_after == {}


def test_concatenated_channels_keep_their_place():
    graph = graph_of_own("dense_blocks")
    reads = {pair.name: pair.features.ravel().tolist() for pair in graph.pairs}
    assert reads["a--c"] == reads["a--head"] == [0, 1, 2, 3]
    assert reads["b--c"] == reads["b--head"] == [4, 5, 6, 7, 8]
    assert reads["c--head"] == list(range(9, 15))


def test_channel_read_twice_has_two_features():
    graph = graph_of_own("repeated_slice")
    assert np.sort(graph.pairs_of("a")[0].features).tolist() == [[c, c + 9] for c in range(4)]


def test_depthwise_convolution_travels_with_its_channels():
    group = graph_of_own("depthwise").groups["0"]
    assert [member.module for member in group.passengers] == ["1", "3"]
    assert [member.module for member in group.consumers] == ["4"]


@pytest.mark.parametrize(
    ("name", "whole", "reason"),
    [
        ("depthwise", {"7"}, "feeds the network's output"),
    ],
)
def test_what_cannot_be_cut_soundly_is_left_whole(name, whole, reason):
    graph = graph_of_own(name)
    assert whole <= graph.left_whole.keys()
    assert not whole & graph.groups.keys()
    assert any(reason in graph.left_whole[module] for module in whole)


def test_module_that_runs_twice_makes_and_reads_the_same_channels():
    group = graph_of_own("shared_module").groups["stem"]
    assert [member.module for member in group.producers] == ["stem", "twice"]
    assert [member.module for member in group.consumers] == ["twice", "last"]


@pytest.mark.parametrize("mixer", MIXERS)
def test_mixed_channels_are_never_cut_wrongly(mixer, seed):
    model = mixing_network(mixer)
    graph = build_graph(model, own_images(1))
    selection = random_selection(graph, seed)
    if "first" in graph.groups:  # if it is cut at all, it must be cut right
        kept = np.array([0, 3, 4, 5])  # of pairs of channels, those that there are
        selection.kept["first"] = kept[kept < graph.groups["first"].width]
    pruned = apply_selection(model, selection, own_images(1))
    with dropped_channels_zeroed(model, graph, selection):
        torch.testing.assert_close(pruned(own_images(4)), model(own_images(4)))


def test_grouped_convolution_of_few_groups_reads_a_channel_of_each_index():
    group = graph_of_own("grouped").groups["0"]
    assert group.producers[0].features.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert [member.module for member in group.consumers] == ["2"]


def test_transposed_convolution_makes_and_reads_channels():
    groups = graph_of_own("transposed_branch").groups
    assert [member.module for member in groups["plain"].producers] == ["plain", "transposed"]
    assert {member.module for member in groups["stem"].consumers} == {"plain", "transposed"}


def test_parameter_that_scales_channels_is_cut_with_them():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 5)
            self.last, self.scale = nn.Linear(5, 2), nn.Parameter(torch.ones(6))

        def forward(self, x):
            return self.last(self.second(self.scale * self.first(x)).relu())

    graph = build_graph(Scaled(), torch.zeros(1, 4))
    assert [bare.module for bare in graph.groups["first"].parameters] == ["scale"]
    kept = {"first": np.array([0, 4]), "second": np.arange(5)}
    pruned = apply_selection(
        Scaled(), Selection(kept, dict(graph.widths), "test"), torch.zeros(1, 4)
    )
    assert pruned.scale.shape == (2,)
    assert graph.params({"first": 2, "second": 5}) == count_params(pruned)


def test_parameter_without_elements_is_joined_as_any_other():
    class NoRegisters(nn.Module):
        """As DINOv3, which joins registers even where there are none."""

        def __init__(self):
            super().__init__()
            self.embed, self.registers = nn.Linear(4, 8), nn.Parameter(torch.zeros(1, 0, 8))
            self.scale, self.hidden = nn.Parameter(torch.rand(8)), nn.Linear(8, 6)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            tokens = torch.cat([self.registers.expand(len(x), -1, -1), self.embed(x)], 1)
            return self.head(self.hidden(tokens * self.scale).relu().mean(1))

    graph = build_graph(NoRegisters(), torch.randn(2, 5, 4))
    assert graph.widths["hidden"] == 6


def test_channels_that_are_outputs_are_left_whole():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            inner = self.second(self.first(x).relu())
            return inner + self.third(inner.relu())

    graph = build_graph(Both(), torch.zeros(1, 4))
    assert list(graph.groups) == ["first"]
    assert graph.left_whole["second"] == "feeds the network's output"


def test_network_without_anything_to_prune_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(
        ModelError, match=r"no channels to prune(.|\n)*network returns their channels"
    ):
        build_graph(model, torch.zeros(1, 3, 2, 2))


def test_network_that_does_not_run_is_refused():
    with pytest.raises(ModelError, match=r"does not run on an input of shape \(1, 3, 28, 28\)"):
        build_graph(build_small("lenet5"), torch.zeros(1, 3, 28, 28, dtype=torch.float64))


def test_network_that_autograd_cannot_follow_can_be_pruned():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.first(x).detach().relu())

    assert list(build_graph(Detached(), torch.zeros(1, 4)).groups) == ["first"]


def test_frozen_network_has_the_same_graph():
    model = build_small("lenet5").requires_grad_(False)
    graph = build_graph(model, images_for("lenet5", 1))
    assert graph.groups.keys() == graph_of("lenet5").groups.keys()
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_model_is_left_as_found():
    model = build_small("resnet20").train()
    model.bn1.eval()  # a frozen batch-norm in a network in training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    build_graph(model, images_for("resnet20", 1))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert [name for name, module in model.named_modules() if not module.training] == ["bn1"]


@pytest.mark.parametrize("looks", [True, False])
def test_group_whose_size_forward_spells_out_leaves_the_others_be(looks):
    def forward(net, x):
        if looks and not float(x.sum()) < 1e9:  # cannot be told from shapes alone
            return x
        x = net.second(net.first(x).relu().reshape(len(x), 6, 6, 6)).relu()
        return net.head(net.third(x).relu().mean((2, 3)))

    net = Net(
        forward,
        first=nn.Conv2d(3, 6, 3),
        second=nn.Conv2d(6, 5, 3),
        third=nn.Conv2d(5, 4, 3),
        head=nn.Linear(4, 2),
    )
    graph = build_graph(net, torch.zeros(1, 3, 8, 8))
    assert list(graph.groups) == ["third", "second"]
    assert (
        "without some of its channels: RuntimeError: shape '[2, 6, 6, 6]'"
        in graph.left_whole["first"]
    )
