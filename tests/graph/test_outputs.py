"""What the record of a pass says of layers' outputs: sums they go into, what a ReLU alone reads."""

import pytest
import torch
import torch.nn.functional as F
from oracles import Net
from torch import nn

from mipp.graph.labels import record_labels

NORMS = {"first": "norm", "other": "second_norm"}


def layers():
    return {
        "first": nn.Conv2d(3, 4, 3, padding=1),
        "norm": nn.BatchNorm2d(4),
        "other": nn.Conv2d(3, 4, 3, padding=1),
        "second_norm": nn.BatchNorm2d(4),
        "bare": nn.Conv2d(3, 4, 1),
        "act": nn.ReLU(inplace=True),
        "head": nn.Linear(4, 2),
    }


def outputs_of(forward):
    net = Net(forward, **layers()).eval()
    return record_labels(net, [lambda: net(torch.randn(2, 3, 6, 6))], NORMS).outputs


def head(net, x):
    return net.head(x.mean((2, 3)))


def four(x):
    return x[:, :1].expand(-1, 4, -1, -1)


def first(net, x):
    return net.norm(net.first(x))


def in_place(net, x):
    y = first(net, x)
    y += net.bare(x)
    return head(net, y)


RECTIFIED = {
    "a function": (lambda net, x: head(net, F.relu(first(net, x))), {"first"}),
    "a module in place": (lambda net, x: head(net, net.act(first(net, x))), {"first"}),
    "in place by name": (lambda net, x: head(net, first(net, x).relu_()), {"first"}),
    "its shape is asked": (
        lambda net, x: head(net, F.relu((y := first(net, x))[: y.shape[0] and None])),
        set(),  # the slice is read, and what a view does nobody follows
    ),
    "a sum": (
        lambda net, x: head(net, F.relu(first(net, x) + net.second_norm(net.other(x)))),
        {"first", "other"},
    ),
    "a sum of sums": (
        lambda net, x: head(net, F.relu(first(net, x) + net.bare(x) + net.bare(x).sin())),
        {"first"},  # the sine reads the other layer too
    ),
    "a skip beside it": (lambda net, x: head(net, F.relu(y := first(net, x)) + y), set()),
    "two sums": (
        lambda net, x: head(net, F.relu((y := first(net, x)) + four(x)) * F.relu(y + four(x))),
        set(),
    ),
    "a sum in each of two calls": (
        lambda net, x: head(net, F.relu(first(net, x) + four(x)) * F.relu(first(net, x) + four(x))),
        set(),
    ),
    "each of two calls": (
        lambda net, x: head(net, F.relu(first(net, x)) + F.relu(first(net, x.flip(3)))),
        {"first"},
    ),
    "another activation": (lambda net, x: head(net, F.gelu(first(net, x))), set()),
    "the network's output": (lambda net, x: (head(net, F.relu(y := first(net, x))), y), set()),
}


@pytest.mark.parametrize("name", RECTIFIED)
def test_layer_is_rectified_where_a_relu_alone_reads_it(name):
    forward, expected = RECTIFIED[name]
    assert outputs_of(forward).rectified == expected


SUMS = {
    "plus": (lambda net, x: head(net, first(net, x) + net.bare(x)), {"first", "bare"}),
    "in place": (in_place, {"first", "bare"}),
    "by function": (
        lambda net, x: head(net, torch.add(first(net, x), net.bare(x), alpha=1)),
        {"first", "bare"},
    ),
    "by method": (lambda net, x: head(net, first(net, x).add_(net.bare(x))), {"first", "bare"}),
    "weighed": (lambda net, x: head(net, torch.add(first(net, x), net.bare(x), alpha=2)), set()),
    "of other shapes": (
        lambda net, x: head(net, first(net, x) + net.bare(x).mean((2, 3), keepdim=True)),
        set(),
    ),
    "after an activation in place": (
        lambda net, x: head(net, net.act(first(net, x)) + net.bare(x)),
        {"bare"},
    ),
    "in each of two calls": (
        lambda net, x: head(net, (first(net, x) + four(x)) * (first(net, x.flip(3)) + four(x))),
        set(),
    ),
    "in one of two calls": (
        lambda net, x: head(net, first(net, first(net, x)[:, :3]) + four(x)),
        set(),
    ),
    "twice": (lambda net, x: head(net, (y := first(net, x)) + net.bare(x).sin() + y), set()),
}


@pytest.mark.parametrize("name", SUMS)
def test_layers_that_are_added_up_are_known(name):
    forward, expected = SUMS[name]
    sums = outputs_of(forward).sums
    assert sums.keys() == expected
    assert all(partner in ("", *(expected - {layer})) for layer, partner in sums.items())


def test_sum_in_place_is_no_longer_the_output_of_its_layer():
    def forward(net, x):
        y = first(net, x)
        y += net.second_norm(net.other(x))
        return head(net, y + net.bare(x))

    sums = outputs_of(forward).sums
    assert sums == {"first": "other", "other": "first", "bare": ""}
