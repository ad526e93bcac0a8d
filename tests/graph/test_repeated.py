"""Modules that run several times: one set of channels, rows of every call, costs of all."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import Net, assert_zeroing, random_selection, unfolded_rows
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mipp
from mipp.activations import Sampling, capture_rows
from mipp.graph import build_graph


def conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())


def levels():
    """A head that levels of a pyramid share."""

    def forward(net, x):
        p = net.a(x)
        return [net.head(p), net.head(net.b(F.max_pool2d(p, 2)))]

    head = nn.Sequential(conv(8, 12), nn.Conv2d(12, 5, 1))
    return Net(forward, a=conv(3, 8), b=conv(8, 8), head=head)


def siamese():
    def forward(net, x):
        return net.f(torch.cat([net.e(y).mean((2, 3)) for y in (x, x.flip(3))], 1))

    return Net(forward, e=nn.Sequential(conv(3, 8), conv(8, 12)), f=nn.Linear(24, 4))


def unrolled():
    """A block whose outputs are its inputs, three times."""

    def forward(net, x):
        x = net.stem(x)
        for _ in range(3):
            x = x + net.block(x)
        return net.head(x.mean((2, 3)))

    block = nn.Sequential(conv(8, 10), nn.Conv2d(10, 8, 3, padding=1))
    return Net(forward, stem=conv(3, 8), block=block, head=nn.Linear(8, 4))


def norm_by_level():
    """Shared convolutions with a batch-norm for each level."""

    def forward(net, x):
        p = net.a(x)
        return [net.out(norm(net.c(y)).relu()) for norm, y in ((net.m, p), (net.n, p[:, :, ::2]))]

    norms = {"m": nn.BatchNorm2d(10), "n": nn.BatchNorm2d(10)}
    return Net(forward, a=conv(3, 8), c=nn.Conv2d(8, 10, 1), out=nn.Conv2d(10, 4, 1), **norms)


NETS = {"levels": levels, "siamese": siamese, "unrolled": unrolled, "norm_by_level": norm_by_level}
GROUPS = {
    "levels": {"a.0": 8, "head.0.0": 12},
    "siamese": {"e.0.0": 8, "e.1.0": 12},
    "unrolled": {"stem.0": 8, "block.0.0": 10},
    "norm_by_level": {"a.0": 8, "c": 10},
}


def network(name, seed=0):
    torch.manual_seed(seed)
    return NETS[name]().double().eval(), torch.randn(8, 3, 8, 8).double()


@pytest.mark.parametrize("name", NETS)
def test_channels_of_all_calls_are_one(name):
    model, x = network(name)
    graph = build_graph(model, x[:1])
    assert {key: group.width for key, group in graph.groups.items()} == GROUPS[name]


class Joined(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        made = self.net(x)
        return torch.cat([y.flatten(1) for y in made], 1) if isinstance(made, list) else made


@pytest.mark.parametrize("name", NETS)
def test_cut_of_every_call_is_zero_in_every_call(name, seed):
    model, x = network(name, seed)
    model = Joined(model)
    graph = build_graph(model, x[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), x)


def flops(model, x):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", NETS)
def test_budget_counts_every_call(name):
    model, x = network(name)
    found = mipp.prune(model, [x], "macs:0.5", images=8)
    assert flops(found.model, x) <= 0.5 * flops(model, x)
    made = Joined(found.model).train()(x)
    made.square().sum().backward()
    assert made.isfinite().all()


def error(model, dense, x):
    with torch.no_grad():
        return float((Joined(model.eval())(x) - Joined(dense)(x)).square().mean())


@pytest.mark.parametrize("name", NETS)
def test_repair_is_never_worse_than_none(name, seed):
    model, x = network(name, seed)
    bare = mipp.prune(model, [x], "ratio:0.4", images=8, repair="none")
    repaired = mipp.prune(model, [x], "ratio:0.4", images=8)
    assert error(repaired.model, model, x) <= error(bare.model, model, x) * 1.02


def test_rows_are_those_of_every_call():
    model, x = network("siamese")
    pair = next(p for p in build_graph(model, x[:1]).pairs if p.consumer == "e.1.0")
    assert pair.positions == 2 * 64
    [rows] = capture_rows(model, [pair], [x], Sampling(8 * 128, 8, 0))
    read, _ = rows[pair.name]
    with torch.no_grad():
        calls = [
            unfolded_rows(model.e[1][0], model.e[0](y)).reshape(8, 64, -1) for y in (x, x.flip(3))
        ]
    expected = torch.cat(calls, 1).flatten(0, 1)
    torch.testing.assert_close(read.flatten(1), expected)


def test_rows_are_shared_by_the_calls_and_do_not_depend_on_batches():
    model, x = network("levels")
    pair = next(p for p in build_graph(model, x[:1]).pairs if p.consumer == "head.0.0")
    assert pair.positions == 64 + 16
    sampling = Sampling(8 * 10, 8, 0)
    [whole] = capture_rows(model, [pair], [x], sampling)
    parts = list(capture_rows(model, [pair], [x[:3], x[3:]], sampling))
    for side in (0, 1):
        assert len(whole[pair.name][side]) == 80
        together = torch.cat([rows[pair.name][side] for rows in parts])
        torch.testing.assert_close(together, whole[pair.name][side])


def test_module_that_reads_the_input_too_keeps_its_inputs():
    def forward(net, x):
        return net.head(net.twice(net.twice(x).relu()).mean((2, 3)))

    model = Net(forward, twice=nn.Conv2d(3, 3, 1), head=nn.Linear(3, 2))
    model = Net(lambda net, x: net.last(net.inner(x).relu()), inner=model, last=nn.Linear(2, 2))
    graph = build_graph(model, torch.randn(1, 3, 4, 4))
    assert list(graph.groups) == ["inner.head"]
    assert "runs more than once, and not always" in graph.left_whole["inner.twice"]
    assert np.array_equal(graph.groups["inner.head"].producers[0].features.ravel(), [0, 1])
