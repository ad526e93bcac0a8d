"""Convolutions whose weight is standardised in every call: cut, they keep the computed weight."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from oracles import Net, assert_zeroing, random_selection
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mipp
from mipp.graph import build_graph
from mipp.layers import layer_of
from mipp.vision import torchvision

assert torchvision  # which timm needs
std_conv = pytest.importorskip("timm.layers.std_conv")


class ByStd(nn.Conv2d):
    """As in the paper's own code: deviations with one less, and eps beside them."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)


class ByVariance(nn.Conv2d):
    """As in BiT's own code."""

    def forward(self, x):
        v, m = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        return self._conv_forward(x, (self.weight - m) / torch.sqrt(v + 1e-10), self.bias)


class Weighed(nn.Conv2d):
    """As in StyleGAN's demodulation: filters of length 1, times a factor each."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.factors = nn.Parameter(torch.rand(self.out_channels) + 0.5)

    def forward(self, x):
        length = self.weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        return self._conv_forward(
            x, self.weight / length * self.factors[:, None, None, None], self.bias
        )


def padded(kind, i, o, size, **options):
    return kind(i, o, size, padding=size // 2, **options)


def same_of_transformers(*args, **options):
    kind = pytest.importorskip("transformers.models.bit.modeling_bit").WeightStandardizedConv2d
    return kind(*args, **options)


KINDS = (
    {
        name: getattr(std_conv, name)
        for name in ("StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame")
    }
    | {kind.__name__: partial(padded, kind) for kind in (ByStd, ByVariance, Weighed)}
    | {
        "transformers": same_of_transformers,
    }
)


def network(name, seed=0):
    """A stream, a depthwise convolution and a stride."""
    conv = KINDS[name]

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


def chain():
    torch.manual_seed(0)
    layers = [module for i in (3, 8, 8) for module in (ByStd(i, 8, 3), nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(72, 4)).double().eval()


def test_layer_that_is_refitted_but_not_cut_comes_back_from_a_checkpoint(tmp_path):
    x = images()
    pruner = mipp.Pruner(chain(), [x], images=16)
    found = pruner.cut(pruner.plan("ratio:0.1", limits=mipp.Limits(keep_outputs=("2", "4"))))
    assert {key: len(kept) < 8 for key, kept in found.selection.kept.items()}["0"]
    assert found.model[4].weight.shape == (8, 8, 3, 3)
    saved = mipp.Checkpoint(found.model, None, found.selection, (3, 9, 9))
    mipp.save_checkpoint(tmp_path / "pruned.safetensors", saved)
    again = mipp.load_checkpoint(tmp_path / "pruned.safetensors", chain).model
    torch.testing.assert_close(again.eval()(x), found.model.eval()(x))


class Scaled(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight * 0.1, self.bias)


class Bent(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


class Fails(nn.Conv2d):
    def forward(self, x, scale):
        return super().forward(x) * scale


@pytest.mark.parametrize("kind", [nn.Conv2d, Scaled, Bent, Fails])
def test_convolution_whose_weight_follows_a_cut_is_one_like_any_other(kind):
    assert layer_of(kind(4, 6, 3)).kind == "conv"
    assert layer_of(kind(4, 4, 3, groups=4)).kind == "grouped conv"


def test_finding_out_leaves_the_module_and_the_random_numbers_as_they_are():
    module = Weighed(4, 6, 3)
    state, before = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    assert layer_of(module).kind == "standardised conv"
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
    assert type(module) is Weighed
