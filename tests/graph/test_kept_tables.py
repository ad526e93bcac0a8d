"""Tensors that modules keep of earlier calls, such as LeViT's biases by place: seen, and cut."""

import pytest
import torch
from kinds import Kind, built, checks_of
from oracles import Net
from torch import nn

import mipp
from mipp.graph import build_graph

TOKENS = 9


class Attention(nn.Module):
    """Heads with a bias for every distance; in eval mode the whole table is kept."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv, self.back = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.biases = nn.Parameter(torch.randn(heads, TOKENS))
        places = torch.arange(TOKENS)
        self.places = (places[:, None] - places).abs()
        self.table = None

    def biases_by_place(self):
        if self.training:
            return self.biases[:, self.places]
        if self.table is None:
            self.table = self.biases[:, self.places]
        return self.table

    def train(self, mode=True):
        if mode:
            self.table = None
        return super().train(mode)

    def forward(self, x):
        parts = self.qkv(x).view(len(x), TOKENS, 3, self.heads, self.size)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) / self.size**0.5 + self.biases_by_place()).softmax(-1)
        return self.back((scores @ v).transpose(1, 2).flatten(2))


class ByDevice(Attention):
    """Tables by the name of a device, as those of timm and of transformers are."""

    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.table = {}

    def biases_by_place(self):
        if self.training:
            return self.biases[:, self.places]
        device = str(self.biases.device)
        if device not in self.table:
            self.table[device] = self.biases[:, self.places]
        return self.table[device]

    def train(self, mode=True):
        if mode:
            self.table = {}
        return nn.Module.train(self, mode)


class AnyMode(ByDevice):
    """Forgets in whatever mode it is set, as timm's."""

    def train(self, mode=True):
        self.table = {}
        return nn.Module.train(self, mode)


def attentive(kind):
    def forward(net, x):
        x = net.stem(x).flatten(2).transpose(1, 2)
        x = x + net.attention(x)
        return net.head(x.mean(1))

    return Net(forward, stem=nn.Conv2d(3, 12, 2, 2), attention=kind(12, 4), head=nn.Linear(12, 3))


KINDS = {
    kind.__name__: Kind(lambda kind=kind: attentive(kind), (3, 6, 6), 0.2)
    for kind in (Attention, ByDevice, AnyMode)
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_network_that_ran_before_is_pruned_as_one_that_did_not(name):
    model, x = built(KINDS[name], 0)
    with torch.no_grad():
        model(x)
    assert {"attention", "stem"} == build_graph(model, x[:1]).groups.keys()
    found = mipp.prune(model, [x], "macs:0.5").model
    with torch.no_grad():
        assert found(x).isfinite().all()
