"""Maps that are padded, or blank at some places, before they meet maps that are not."""

import torch.nn.functional as F
from kinds import Kind, checks_of
from oracles import Net
from torch import nn


def network(join, **more):
    """Two layers' maps that are joined in some way, and what reads them."""

    def forward(net, x):
        y = join(net, net.a(x).relu(), net.b(x))
        return net.head(net.c(y).relu().mean((2, 3)))

    layers = {"a": nn.Conv2d(3, 8, 3), "b": nn.Conv2d(3, 8, 3, padding=1)}
    return Net(forward, **layers, c=nn.Conv2d(8, 6, 1), head=nn.Linear(6, 3), **more)


def summed(net, a, b):
    return F.pad(a, (1, 1, 1, 1)) + b


def gated(net, a, b):
    """By a value of each channel, as in squeeze and excitation."""
    return F.pad(a, (0, 2, 0, 2), value=0.5) * net.gate(b.mean((2, 3)))[..., None, None].sigmoid()


def blank(net, a, b):
    """With a border that is set to zero."""
    a = F.interpolate(a, size=b.shape[2:])
    a[:, :, :2] = 0
    return a + b


KINDS = {
    "summed": Kind(lambda: network(summed), (3, 8, 8), 0.12),
    "gated": Kind(lambda: network(gated, gate=nn.Linear(8, 8)), (3, 8, 8), 0.13),
    "blank": Kind(lambda: network(blank), (3, 8, 8), 0.12),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)
