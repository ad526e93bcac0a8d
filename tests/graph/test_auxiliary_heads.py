"""Heads that only train: they are cut with their trunk, and have channels of their own."""

import copy
from collections import OrderedDict, namedtuple

import pytest
import torch
import torch.nn.functional as F
from kinds import Kind, built, checks_of
from oracles import Net, in_one, random_selection
from torch import nn

from mipp.cut import apply_selection
from mipp.graph import build_graph

Outputs = namedtuple("Outputs", ["logits", "aux_logits"])


def conv(i, o, size=3):
    return nn.Sequential(nn.Conv2d(i, o, size, padding=size // 2), nn.BatchNorm2d(o), nn.ReLU())


def inception():
    """Branches that are concatenated, of which a head with convolutions of its own reads some."""

    def forward(net, x):
        y = net.stem(x)
        y = torch.cat([net.one(y), net.two(y), net.pooled(F.avg_pool2d(y, 3, 1, 1))], 1)
        aux = None
        if net.training:
            aux = net.aux_head(net.aux_conv(F.avg_pool2d(y, 2)).mean((2, 3)))
        y = net.head(net.last(y).mean((2, 3)))
        return Outputs(y, aux) if net.training else y

    return Net(
        forward,
        stem=conv(3, 8),
        one=conv(8, 6, 1),
        two=nn.Sequential(conv(8, 6, 1), conv(6, 8)),
        pooled=conv(8, 4, 1),
        aux_conv=conv(18, 8, 1),
        aux_head=nn.Linear(8, 3),
        last=conv(18, 12),
        head=nn.Linear(12, 3),
    )


def two_auxiliaries():
    """Two heads with hidden layers at two depths, over flattened maps, as in GoogLeNet."""

    def forward(net, x):
        y = net.one(x)
        z = net.two(y)
        logits = net.head(net.three(z).mean((2, 3)))
        if not net.training:
            return logits
        return logits, net.first_head(F.adaptive_avg_pool2d(y, 2)), net.second_head(z.mean((2, 3)))

    def head(channels):
        return nn.Sequential(nn.Flatten(), nn.Linear(channels, 10), nn.ReLU(), nn.Linear(10, 3))

    return Net(
        forward,
        one=conv(3, 8),
        two=conv(8, 12),
        three=conv(12, 12),
        head=nn.Linear(12, 3),
        first_head=head(32),
        second_head=head(12),
    )


def segmentation():
    """A dictionary of maps, with that of an auxiliary head in both modes, as in FCN."""

    def forward(net, x):
        y = net.one(x)
        z = net.two(F.max_pool2d(y, 2))
        found = OrderedDict(out=F.interpolate(net.out(z), scale_factor=2.0))
        found["aux"] = net.aux(y)
        return found

    return Net(
        forward,
        one=conv(3, 8),
        two=conv(8, 12),
        out=nn.Sequential(conv(12, 8), nn.Conv2d(8, 2, 1)),
        aux=nn.Sequential(conv(8, 6), nn.Conv2d(6, 2, 1)),
    )


def every_level():
    """A decoder whose every level is supervised in training, the last alone is the answer."""

    def forward(net, x):
        a = net.one(x)
        b = net.two(F.max_pool2d(a, 2))
        c = net.three(torch.cat([a, F.interpolate(b, scale_factor=2.0)], 1))
        answers = [side(y) for side, y in zip(net.sides, (b, a, c), strict=True)]
        return answers if net.training else answers[-1]

    return Net(
        forward,
        one=conv(3, 8),
        two=conv(8, 10),
        three=conv(18, 8),
        sides=nn.ModuleList(nn.Conv2d(channels, 2, 1) for channels in (10, 8, 8)),
    )


KINDS = {
    "inception": Kind(inception, (3, 8, 8), 0.03),
    "two auxiliaries": Kind(two_auxiliaries, (3, 8, 8), 0.02),
    "segmentation": Kind(segmentation, (3, 8, 8), 0.04),
    "every level": Kind(every_level, (3, 8, 8), 0.03),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


def silenced(model, graph, selection):
    """The network with the filters of what was dropped, and the norms after them, at zero."""
    model = copy.deepcopy(model)
    for name, group in graph.groups.items():
        makers = {member.module: member for member in group.producers}
        norms = {graph.norm_after[maker] for maker in makers if maker in graph.norm_after}
        carried = [member for member in group.passengers if member.module in norms]
        for member in (*makers.values(), *carried):
            layer, gone = model.get_submodule(member.module), selection.dropped(name)
            for parameter in layer.parameters(recurse=False):
                parameter.data[member.features[gone].ravel()] = 0
    return model


@pytest.mark.parametrize("name", KINDS)
def test_heads_that_train_compute_what_they_did_without_the_dropped_channels(name, seed):
    model, x = built(KINDS[name], seed)
    graph = build_graph(model, x[:1])
    selection = random_selection(graph, seed)
    cut = apply_selection(model, selection, x[:1]).train()
    expected = in_one(silenced(model, graph, selection).train()(x))
    torch.testing.assert_close(in_one(cut(x)), expected)
    assert expected.std() > 0


@pytest.mark.parametrize("name", ["inception", "two auxiliaries"])
def test_hidden_channels_of_a_head_that_trains_stay_and_it_is_said_why(name):
    model, x = built(KINDS[name], 0)
    reasons = build_graph(model, x[:1]).left_whole
    hidden = [key for key in ("aux_conv.0", "first_head.1", "second_head.1") if key in reasons]
    assert len(hidden) == (1 if name == "inception" else 2)
    for key in hidden:
        assert "runs in other calls than forward only, such as in train mode" in reasons[key]
