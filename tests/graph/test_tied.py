"""Modules that share parameters: cut together, and shared afterwards."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kinds import Kind, built, checks_of
from oracles import Net
from torch import nn

import mipp
from mipp.cut import apply_selection
from mipp.errors import ModelError
from mipp.graph import build_graph
from mipp.metrics import count_params
from mipp.selection.selection import Selection


def deep():
    """Hidden layers of one weight and two biases."""
    layers = [module for i in (6, 12, 12) for module in (nn.Linear(i, 12), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(12, 3))
    net[4].weight = net[2].weight
    return net


def levels():
    """Heads of two levels, as in EfficientDet: one convolution, a batch-norm for each level."""

    def forward(net, x):
        p = net.stem(x).relu()
        small = net.n2(net.c2(F.max_pool2d(p, 2))).relu()
        return net.h1(net.n1(net.c1(p)).relu()).mean((2, 3)) + net.h2(small).mean((2, 3))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, padding=1),
        c1=nn.Conv2d(12, 10, 3, padding=1),
        c2=nn.Conv2d(12, 10, 3, padding=1),
        n1=nn.BatchNorm2d(10),
        n2=nn.BatchNorm2d(10),
        h1=nn.Conv2d(10, 2, 1),
        h2=nn.Conv2d(10, 2, 1),
    )
    net.c2.weight, net.c2.bias = net.c1.weight, net.c1.bias
    net.h2.weight = net.h1.weight
    return net


def norms():
    """Two norms in a stream that share scale and shift, and a bare scale in two places."""

    def forward(net, x):
        x = net.stem(x)
        x = x + net.a(net.one(x).relu()) * net.one_scale
        x = x + net.b(net.two(x).relu()) * net.other_scale
        return net.head(x.mean((2, 3)))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 12, 3),
        one=nn.BatchNorm2d(12),
        a=nn.Conv2d(12, 12, 1),
        two=nn.BatchNorm2d(12),
        b=nn.Conv2d(12, 12, 1),
        head=nn.Linear(12, 3),
    )
    net.two.weight, net.two.bias = net.one.weight, net.one.bias
    net.one_scale = nn.Parameter(torch.rand(12, 1, 1) + 0.5)
    net.other_scale = net.one_scale
    return net


KINDS = {
    "deep": Kind(deep, (6,), 0.05),
    "levels": Kind(levels, (3, 8, 8), 0.1),
    "norms": Kind(norms, (3, 8, 8), 0.1),
}
SHARED = {
    "deep": [("2", "4", "weight")],
    "levels": [("c1", "c2", "weight"), ("c1", "c2", "bias"), ("h1", "h2", "weight")],
    "norms": [("one", "two", "weight"), ("one", "two", "bias")],
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_cut_modules_share_again_and_the_graph_counts_them_once(name):
    model, x = built(KINDS[name], 0)
    graph = build_graph(model, x[:1])
    kept = {key: np.arange(width // 2) for key, width in graph.widths.items()}
    cut = apply_selection(model, Selection(kept, dict(graph.widths), "half"), x[:1])
    for one, other, parameter in SHARED[name]:
        first, second = (getattr(cut.get_submodule(m), parameter) for m in (one, other))
        assert first is second
        assert first.shape != getattr(model.get_submodule(one), parameter).shape or one == "h1"
    assert graph.params(graph.widths) == count_params(model)
    assert graph.params({key: len(k) for key, k in kept.items()}) == count_params(cut)


def test_shared_weights_are_not_refitted_and_the_report_says_so():
    model, x = built(KINDS["levels"], 0)
    found = mipp.prune(model, [x], "ratio:0.5", images=16)
    assert {"c1", "c2", "h1", "h2"} <= found.report.unfitted.keys()
    assert "another module shares them" in found.report.unfitted["c1"]


class Unlike(nn.Module):
    """Weights that are shared by modules which are cut along other axes."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 3)
        if form == "one reads the input":
            self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 3)
            self.d = nn.Linear(8, 8)
            self.d.weight = self.b.weight

    def forward(self, x):
        if self.form == "transposed":  # an autoencoder
            y = F.linear(
                F.linear(self.b(self.a(x).relu()).relu(), self.b.weight.t()), self.a.weight.t()
            )
            return self.c(y)
        y = self.b(self.a(x).relu())
        return self.c(y.relu()), self.d(F.pad(x, (0, 2)))


@pytest.mark.parametrize("form", ["transposed", "one reads the input"])
def test_what_cannot_be_cut_alike_is_never_cut_wrongly(form, seed):
    torch.manual_seed(seed)
    model, x = Unlike(form).double().eval(), torch.randn(16, 6).double()
    try:
        graph = build_graph(model, x[:1])
    except ModelError:
        return
    assert not {"b", "d"} & {m for group in graph.groups.values() for m in group.modules()}
