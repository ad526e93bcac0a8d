"""Convolutions whose weight is standardised in every call: cut, they keep the computed weight."""

import copy

import pytest
import torch
from oracles import Net, assert_zeroing, random_selection
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mipp
from mipp.graph import build_graph
from mipp.layers import layer_of
from mipp.vision import torchvision

assert torchvision  # which timm needs
std_conv = pytest.importorskip("timm.layers.std_conv")
KINDS = ("StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame")


def network(name, seed=0):
    """A stream, a depthwise convolution and a stride."""
    conv = getattr(std_conv, name)

    def forward(net, x):
        x = net.stem(x)
        x = x + net.back(net.each(net.inner(x).relu()))
        return net.head(x.relu().mean((2, 3)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (
            Net(
                forward,
                stem=conv(3, 8, 3, stride=2),
                inner=conv(8, 12, 3, bias=True),
                each=conv(12, 12, 3, groups=12),
                back=conv(12, 8, 1),
                head=nn.Linear(8, 4),
            )
            .double()
            .eval()
        )


def images():
    return torch.randn(16, 3, 9, 9, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("name", KINDS)
def test_cut_network_is_the_dense_one_without_the_dropped_channels(name, seed):
    model, x = network(name, seed), images()
    graph = build_graph(model, x[:1])
    assert set(graph.groups) == {"stem", "inner"}
    assert_zeroing(model, graph, random_selection(graph, seed), x)


@pytest.mark.parametrize("name", KINDS)
def test_default_method_and_repair_meet_the_budget_train_and_come_back(name):
    model, x = network(name), images()
    found = mipp.prune(model, [x], "macs:0.5", images=16).model
    with FlopCounterMode(display=False) as dense, torch.no_grad():
        model(x)
    with FlopCounterMode(display=False) as less, torch.no_grad():
        y = found.eval()(x)
    assert less.get_total_flops() <= 0.5 * dense.get_total_flops()
    again = copy.deepcopy(found)
    for parameter in again.parameters():
        parameter.data.zero_()
    again.load_state_dict(found.state_dict())
    torch.testing.assert_close(again(x), y)
    found.train()(x).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in found.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_map_that_is_written_is_what_the_layer_computes(name, seed):
    layer, x = layer_of(network(name, seed).inner), torch.randn(2, 8, 6, 5).double()
    before = layer.module(x)
    linear = layer.map
    with torch.no_grad():
        layer.set_map(linear.weight, linear.bias)
    assert isinstance(layer.module, nn.Conv2d)
    torch.testing.assert_close(layer.module(x), before)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("refitted", [False, True])
def test_rows_times_the_map_are_the_outputs(name, refitted, seed):
    layer = layer_of(network(name, seed).stem)
    x = images()
    with torch.no_grad():
        if refitted:
            layer.set_map(layer.map.weight, torch.zeros(8))
        layer = layer_of(layer.module)
        made = layer.module(x)
        at = torch.arange(layer.positions(made.shape)).expand(len(x), -1)
        rows, linear = layer.rows_read(x, at, made.shape), layer.map
        expected = torch.einsum("nfb,ofb->no", rows, linear.weight)
        expected = expected if linear.bias is None else expected + linear.bias
        torch.testing.assert_close(layer.rows_made(made, at), expected)
