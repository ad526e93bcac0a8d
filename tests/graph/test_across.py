"""Grouped convolutions whose groups are tied to one another: index j of every group is a unit."""

import numpy as np
import pytest
import torch
from kinds import Kind, built, checks_of
from oracles import Net
from torch import nn

from mipp.activations import Sampling
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.refit import RefitSettings, refit
from mipp.selection.selection import Selection, keep_all


def summed(conv, norm, maps):
    """Groups that are summed, as the branches of a split attention."""

    def forward(net, x):
        y = net.norm(net.conv(net.stem(x).relu())).relu()
        y = y.reshape(len(x), net.conv.groups, -1, *y.shape[2:]).sum(1)
        return net.head(net.back(y).relu().flatten(2).mean(2))

    return Net(
        forward,
        stem=maps(3, 8, 3, padding=1),
        conv=conv,
        norm=norm,
        back=maps(10, 6, 3, padding=1),
        head=nn.Linear(6, 3),
    )


def split_attention(cardinality=1, radix=2, width=8):
    """The block of ResNeSt: branches weighed by a softmax over them."""
    branches = cardinality * radix

    def forward(net, x):
        images, x = len(x), net.stem(x).relu()
        y = net.conv(x).relu()
        y = y.reshape(images, radix, -1, *y.shape[2:])
        gates = net.second(net.first(y.sum(1).mean((2, 3), keepdim=True)).relu())
        gates = gates.view(images, cardinality, radix, -1).transpose(1, 2).softmax(1)
        y = (y * gates.reshape(images, radix, -1, 1, 1)).sum(1)
        return net.head((x + net.back(y)).relu().mean((2, 3)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 16, 3, padding=1),
        conv=nn.Conv2d(16, width * radix, 3, padding=1, groups=branches, bias=False),
        first=nn.Conv2d(width, 8, 1, groups=cardinality),
        second=nn.Conv2d(8, width * radix, 1, groups=cardinality),
        back=nn.Conv2d(width, 16, 1),
        head=nn.Linear(16, 3),
    )


def halves():
    """Halves of a grouped convolution's outputs that gate one another."""

    def forward(net, x):
        one, other = net.conv(net.stem(x).relu()).chunk(2, 1)
        return net.head((one.tanh() * other.sigmoid()).mean(2))

    return Net(
        forward,
        stem=nn.Conv1d(2, 12, 3),
        conv=nn.Conv1d(12, 20, 3, stride=2, groups=2),
        head=nn.Linear(10, 3),
    )


def few_groups():
    """Two groups of eight, as in a RegNet's first stages."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 3, 1),
    )


def last():
    """A grouped convolution that makes the output: its inputs can go, its outputs stay."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 3, padding=1, groups=2)
    )


KINDS = {
    "summed": Kind(
        lambda: summed(nn.Conv2d(8, 20, 3, padding=1, groups=2), nn.BatchNorm2d(20), nn.Conv2d),
        (3, 8, 8),
        0.1,
    ),
    "summed, 1d, reflected": Kind(
        lambda: summed(
            nn.Conv1d(8, 40, 3, padding=1, groups=4, padding_mode="reflect"),
            nn.BatchNorm1d(40),
            nn.Conv1d,
        ),
        (3, 12),
        0.15,
    ),
    "summed, 3d, no bias": Kind(
        lambda: summed(
            nn.Conv3d(8, 20, 3, padding=1, groups=2, bias=False), nn.BatchNorm3d(20), nn.Conv3d
        ),
        (3, 4, 4, 4),
        0.1,
    ),
    "split attention": Kind(split_attention, (3, 8, 8), 0.1),
    "split attention, two groups": Kind(lambda: split_attention(2, width=16), (3, 8, 8), 0.15),
    "halves": Kind(halves, (2, 17), 0.2),
    "few groups": Kind(few_groups, (3, 8, 8), 0.15),
    "last": Kind(last, (3, 8, 8), 0.15),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


def test_index_of_every_group_is_one_unit():
    model, x = built(KINDS["summed"], 0)
    group = build_graph(model, x[:1]).groups["conv"]
    [made] = [member for member in group.producers if member.module == "conv"]
    assert made.features.tolist() == [[j, 10 + j] for j in range(10)]


def test_as_many_groups_as_channels_in_each_stay_the_units():
    plain = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, groups=4), nn.Conv2d(32, 2, 1)
    )
    graph = build_graph(plain.eval(), torch.randn(1, 3, 8, 8))
    assert dict(graph.widths) == {"0": 4}


@pytest.mark.parametrize("name", ["summed", "summed, 1d, reflected"])
def test_refit_makes_up_for_inputs_that_repeat_others(name):
    """Exactly, and within each group."""
    model, x = built(KINDS[name], 0)
    with torch.no_grad():
        for tensor in (model.stem.weight, model.stem.bias):
            parts = tensor.unflatten(0, (model.conv.groups, -1))
            parts[:, 1] = 2 * parts[:, 0]
    graph = build_graph(model, x[:1])
    kept = keep_all(graph.widths, "test")
    few = {**kept.kept, "stem": np.delete(kept.kept["stem"], 1)}
    selection = Selection(few, dict(kept.width), "test")
    pruned = apply_selection(model, selection, x[:1])
    settings = RefitSettings(ridge=1e-12, sampling=Sampling(2048, len(x), 0))
    refit(pruned, model, graph, selection, lambda: iter([x]), settings)
    with torch.no_grad():
        torch.testing.assert_close(pruned(x), model(x), rtol=1e-5, atol=1e-5)
