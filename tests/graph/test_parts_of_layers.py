"""Layers of whose outputs some go one way and others another: each part is a group of its own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kinds import Kind, assert_cut_is_zeroing, built, checks_of
from oracles import Net
from torch import nn

from mipp.activations import Sampling
from mipp.cut import apply_selection
from mipp.errors import CutError
from mipp.graph import build_graph
from mipp.refit import RefitSettings, refit
from mipp.selection.selection import Selection, keep_all


def conv(i, o, size=1, **options):
    return nn.Conv2d(i, o, size, padding=size // 2, **options)


def branches():
    """A concatenation that is added to a stream, as in Inception-ResNet."""

    def forward(net, x):
        x = net.stem(x).relu()
        x = (x + net.norm(torch.cat([net.a(x), net.b(x)], 1))).relu()
        return net.head(x.mean((2, 3)))

    return Net(
        forward,
        stem=conv(3, 16, 3),
        a=conv(16, 10),
        b=conv(16, 6, 3),
        norm=nn.BatchNorm2d(16),
        head=nn.Linear(16, 3),
    )


def other_branches():
    """Two concatenations, parted at other places, added to one stream."""

    def forward(net, x):
        x = net.stem(x)
        x = x + torch.cat([net.a(x.relu()), net.b(x.relu())], 1)
        x = x + torch.cat([net.c(x.relu()), net.d(x.relu())], 1)
        return net.head(x.relu().mean((2, 3)))

    return Net(
        forward,
        stem=conv(3, 16, 3),
        a=conv(16, 10),
        b=conv(16, 6),
        c=conv(16, 4, 3),
        d=conv(16, 12),
        head=nn.Linear(16, 3),
    )


def straddling(parts, groups, norm=nn.BatchNorm2d):
    """A grouped convolution of a concatenation whose parts end within groups, and a sum."""
    width = sum(parts)

    def forward(net, x):
        x = net.stem(x).relu()
        y = net.norm(torch.cat([part(x) for part in net.parts], 1)).relu()
        x = (x + net.grouped(y)).relu()
        return net.head(x.mean((2, 3)))

    return Net(
        forward,
        stem=conv(3, width, 3),
        parts=nn.ModuleList(conv(width, part, 3) for part in parts),
        norm=norm(width),
        grouped=conv(width, width, 3, groups=groups),
        head=nn.Linear(width, 3),
    )


def padded_shortcut():
    """A shortcut that is padded by zeros on both sides: the channels in the middle can go."""

    def forward(net, x):
        x = net.stem(x).relu()
        y = net.second(net.first(x).relu()) + F.pad(x, (0, 0, 0, 0, 2, 2))
        return net.head(y.relu().mean((2, 3)))

    return Net(
        forward,
        stem=conv(3, 12, 3),
        first=conv(12, 12, 3),
        second=conv(12, 16, 3),
        head=nn.Linear(16, 3),
    )


def passed_by():
    """Some channels go on through a layer, others by it."""

    def forward(net, x):
        y = net.stem(x).relu()
        return net.head(torch.cat([net.inner(y[:, :4]).relu(), y[:, 4:]], 1).mean((2, 3)))

    return Net(forward, stem=conv(3, 16, 3), inner=conv(4, 8, 3), head=nn.Linear(20, 3))


def mask_beside():
    """A layer makes masks, which are an output, and features, which are read."""

    def forward(net, x):
        y = net.both(net.stem(x).relu())
        return y[:, :2], net.head(y[:, 2:].relu().mean((2, 3)))

    return Net(forward, stem=conv(3, 8, 3), both=conv(8, 14, 3), head=nn.Linear(12, 3))


def gated_one_by_one(gates):
    """Single channels of a layer gate levels of features, as in a focal modulation."""

    def forward(net, x):
        x = net.stem(x).relu()
        sums = (level(x) * gate for level, gate in zip(net.levels, gates(net.gate(x)), strict=True))
        return net.head(sum(sums).relu().mean((2, 3)))

    return Net(
        forward,
        stem=conv(3, 8, 3),
        levels=nn.ModuleList(conv(8, 12, 3) for _ in range(3)),
        gate=conv(8, 3),
        head=nn.Linear(12, 3),
    )


def focal(net, x):
    """Parts that are split off by the width of the stream, as in FocalNet."""
    width = x.shape[1]
    query, context, gates = torch.split(net.parts(x), (width, width, 1), 1)
    return x + net.back(query * (net.mix(context).relu() * gates))


class Checked(nn.Module):
    """A convolution that insists on as many channels as it was made for."""

    def __init__(self, channels, outputs):
        super().__init__()
        self.num_channels, self.conv = channels, conv(channels, outputs)

    def forward(self, x):
        if x.shape[1] != self.num_channels:
            raise ValueError(f"{x.shape[1]} channels, {self.num_channels} expected")
        return self.conv(x)


def checked():
    """Layers that check the width of a stream."""

    def forward(net, x):
        x = net.stem(x).relu()
        return net.head((x + net.back(net.inner(x).relu())).mean((2, 3)))

    return Net(
        forward,
        stem=conv(3, 12, 3),
        inner=Checked(12, 10),
        back=Checked(10, 12),
        head=nn.Linear(12, 3),
    )


def split_by_width():
    """Blocks like those of FocalNet, in two stages."""

    def forward(net, x):
        x = focal(net.one, net.stem(x))
        x = focal(net.two, net.down(x.relu()))
        return net.head(x.relu().mean((2, 3)))

    def block(width):
        layers = {"parts": conv(width, 2 * width + 1), "mix": conv(width, width, 3)}
        return Net(focal, back=conv(width, width), **layers)

    layers = {"stem": conv(3, 10, 3), "down": conv(10, 14, 3), "head": nn.Linear(14, 3)}
    return Net(forward, one=block(10), two=block(14), **layers)


KINDS = {
    "split by width": Kind(split_by_width, (3, 6, 6), 0.02),
    "checked": Kind(checked, (3, 6, 6), 0.06),
    "branches": Kind(branches, (3, 6, 6), 0.06),
    "other branches": Kind(other_branches, (3, 6, 6), 0.09),
    "straddling": Kind(lambda: straddling((14, 10), 8), (3, 6, 6), 0.19),
    "straddling, three parts": Kind(lambda: straddling((10, 6, 8), 6), (3, 6, 6), 0.5),
    "straddling a group-norm": Kind(
        lambda: straddling((14, 10), 8, lambda width: nn.GroupNorm(1, width)), (3, 6, 6), 0.19
    ),
    "padded shortcut": Kind(padded_shortcut, (3, 6, 6), 0.03),
    "passed by": Kind(passed_by, (3, 6, 6), 0.24),
    "gated by slices": Kind(
        lambda: gated_one_by_one(lambda g: [g[:, i : i + 1] for i in range(3)]), (3, 6, 6), 0.04
    ),
    "gated by chunks": Kind(lambda: gated_one_by_one(lambda g: g.chunk(3, 1)), (3, 6, 6), 0.04),
    "gated by numbers": Kind(
        lambda: gated_one_by_one(lambda g: [g[:, i, None] for i in range(3)]), (3, 6, 6), 0.04
    ),
    "mask beside": Kind(mask_beside, (3, 6, 6), 0.05),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


def groups_of(name):
    model, x = built(KINDS[name], 0)
    return build_graph(model, x[:1]).groups


def features(group, module):
    [member] = [member for member in group.producers if member.module == module]
    return member.features.ravel().tolist()


def test_group_bears_the_name_of_a_layer_that_it_covers():
    groups = groups_of("branches")
    assert {name: features(group, "stem") for name, group in groups.items()} == {
        "a": list(range(10)),
        "b": list(range(10, 16)),
    }


def test_group_that_covers_no_layer_bears_the_name_of_one_and_its_first_feature():
    groups = groups_of("other branches")
    assert {name: features(group, "stem") for name, group in groups.items()} == {
        "c": [0, 1, 2, 3],
        "stem-4": [4, 5, 6, 7, 8, 9],
        "b": [10, 11, 12, 13, 14, 15],
    }
    assert features(groups["stem-4"], "d") == [0, 1, 2, 3, 4, 5]


def test_unit_that_reads_two_parts_is_apart_from_those_that_read_one():
    groups = groups_of("straddling")  # 8 groups of 3: the fifth reads 12, 13 and 14
    assert {name: group.width for name, group in groups.items()} == {"stem-0": 4, "stem-15": 3}
    assert features(groups["stem-15"], "parts.1") == list(range(1, 10))


def test_rows_of_a_layer_belong_to_each_group_that_it_makes(seed):
    model, x = built(KINDS["other branches"], seed)
    [pair] = [p for p in build_graph(model, x[:1]).pairs_of("b") if p.consumer == "d"]
    assert pair.rows_kept({}).tolist() == list(range(12))
    assert pair.rows_kept({"stem-4": [0, 5], "b": [1]}).tolist() == [0, 5, 7]
    assert pair.rows_kept({"b": [0]}).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert pair.rows_kept({"c": [0]}).tolist() == list(range(12))


def test_refit_takes_the_rows_that_are_left_of_every_part(seed):
    """With nothing dropped but a copy, the refit gives back what the dense network computes."""
    model, x = built(KINDS["other branches"], seed)
    graph = build_graph(model, x[:1])
    with torch.no_grad():  # channel 11 is a copy of channel 10 wherever it is made
        for layer, at in ((model.stem, 10), (model.b, 0), (model.d, 6)):
            layer.weight[at + 1], layer.bias[at + 1] = layer.weight[at], layer.bias[at]
    every = keep_all(graph.widths)
    kept = {**every.kept, "b": np.array([0, 2, 3, 4, 5]), "stem-4": np.arange(6)}
    selection = Selection(kept, graph.widths, "test")
    pruned = apply_selection(model, selection, x[:1])
    assert not torch.allclose(pruned(x), model(x), atol=1e-3)
    settings = RefitSettings(1e-9, Sampling(10**6, len(x), 0))
    refit(pruned, model, graph, selection, lambda: [x], settings)
    torch.testing.assert_close(pruned(x), model(x), rtol=0, atol=1e-6)


def test_selection_of_a_part_is_refused_where_the_layer_is_smaller(seed):
    model, x = built(KINDS["other branches"], seed)
    graph = build_graph(model, x[:1])
    widths = {**graph.widths, "stem-4": 20}
    with pytest.raises(CutError, match=r"'stem-4': expected 20 channels, got 16"):
        apply_selection(model, keep_all(widths), x[:1])


def by_another_width(net, x):
    """A slice as long as another layer is wide."""
    y = net.wide(x).relu()
    return x + net.back(y[:, : net.mix(x).shape[1]] * net.mix(x))


@pytest.mark.parametrize("block", [focal, by_another_width])
def test_widths_that_forward_reads_of_other_groups_are_not_taken_for_free(block, seed):
    def build():
        return Net(
            lambda net, x: net.head(block(net, net.last(net.stem(x))).mean((2, 3))),
            stem=conv(3, 8, 3),
            last=conv(8, 6),
            parts=conv(6, 13),
            wide=conv(6, 9),
            mix=conv(6, 6, 3),
            back=conv(6, 6),
            head=nn.Linear(6, 3),
        )

    for other in range(4):
        assert_cut_is_zeroing(Kind(build, (3, 6, 6), 1.0), seed + other)
