"""Reasons why layers stay whole are told apart, in words and by category."""

import copy
import pickle

import pytest
import torch
from oracles import Net
from torch import nn

from mipp.graph import build_graph
from mipp.graph.reasons import Reason


def net(operation, **extra):
    def forward(self, x):
        x = operation(self, self.first(x))
        return self.head(self.last(x).relu())

    layers = {"first": nn.Linear(3, 8), "last": nn.Linear(8, 6), "head": nn.Linear(6, 2)}
    return Net(forward, **(layers | extra))


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(-1).values


def constant(net, x):
    return x + torch.arange(8.0)


def part(net, x):
    return torch.cat([x[:, 4:], x[:, :4] * net.gate(x[:, :3])], 1)


def by_number(net, x):
    return x.view(-1, 4, 2).transpose(1, 2).reshape(-1, 8)


def pooled(net, x):
    return nn.functional.avg_pool1d(x[:, None], 3, 1, 1)[:, 0]


def gathered(net, x):
    return x.gather(1, (x > 0).long())


def standardised(weight):
    variance, mean = torch.var_mean(weight, 1, keepdim=True)
    return (weight - mean) * (variance + 1e-5).rsqrt()


ROWS = {
    "softmax": (lambda net, x: x.softmax(-1), {}, "mixed", "softmax in forward computes values of"),
    "pooling": (pooled, {}, "mixed", "pooling in forward runs over its channels as if"),
    "gather": (gathered, {}, "mixed", "gather in forward moves elements to places"),
    "strides": (lambda net, x: x.as_strided(x.shape, x.stride()), {}, "unknown", "cannot follow"),
    "sort": (lambda net, x: net.sorts(x), {"sorts": Sorted()}, "unknown", "cannot follow"),
    "constant": (constant, {}, "values", "such as constants or the input"),
    "uncalled": (
        lambda net, x: x + nn.functional.linear(x, net.free.weight),
        {"free": nn.Linear(8, 8)},
        "uncalled",
        "without being called",
    ),
    "standardised outside of the layer": (
        lambda net, x: x + nn.functional.linear(x, standardised(net.free.weight)),
        {"free": nn.Linear(8, 8)},
        "mixed",
        "a product in forward sums up its channels",
    ),
    "written sizes": (by_number, {}, "sizes", "does not run without some of its channels"),
}


@pytest.mark.parametrize("name", ROWS)
def test_reason_has_its_category_and_says_it_in_words(name):
    operation, extra, category, words = ROWS[name]
    reason = build_graph(net(operation, **extra), torch.randn(1, 3)).left_whole["first"]
    assert (reason.category, words in reason) == (category, True)


def test_outputs_have_a_category_of_their_own():
    graph = build_graph(net(lambda net, x: x.relu()), torch.randn(1, 3))
    assert {k: v.category for k, v in graph.left_whole.items()} == {"head": "output"}


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copied_reason_keeps_its_category(again):
    reason = again(Reason("kind", "an LSTM reads it"))
    assert (reason, reason.category) == ("an LSTM reads it", "kind")
