"""Networks within compiled or parallel modules, and such, or ones to be quantised, within them."""

import pytest
import torch
import torch.nn.functional as F
from kinds import Kind, checks_of
from torch import nn
from torch.ao.nn.quantized import FloatFunctional

import mipp


def compiled(what):
    return torch.compile(what, backend="eager")


class Net(nn.Module):
    """Two convolutions whose activation and first part may be wrapped."""

    def __init__(self, *, part=nn.Sequential, act=torch.relu):
        super().__init__()
        self.part = part(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.conv, self.head, self.act = nn.Conv2d(8, 8, 3), nn.Linear(8, 3), act

    def forward(self, x):
        return self.head(self.act(self.conv(self.part(x))).mean((2, 3)))


def compiled_part(*layers):
    return compiled(nn.Sequential(*layers))


def compiled_in_place(*layers):
    part = nn.Sequential(*layers)
    part.compile(backend="eager")
    return part


def parallel_part(*layers):
    return nn.DataParallel(nn.Sequential(*layers))


AROUND = {
    "compiled": compiled,
    "parallel": nn.DataParallel,
    "compiled and parallel": lambda net: compiled(nn.DataParallel(net)),
}
WITHIN = {
    "compiled part": {"part": compiled_part},
    "part compiled in place": {"part": compiled_in_place},
    "parallel part": {"part": parallel_part},
    "compiled function": {"act": compiled(F.silu)},
}


def sparing(names, *slow):
    """Rows of a table, of which some are left to the slow tests: torch compiles for seconds."""
    return [pytest.param(n, marks=pytest.mark.slow if n in slow else ()) for n in names]


def built(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net(**options).eval()


def images():
    return torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def kept(pruned):
    return [channels.tolist() for channels in pruned.selection.kept.values()]


@pytest.mark.parametrize("name", sparing(AROUND, "compiled and parallel"))
def test_build_function_may_wrap_the_network_as_the_one_that_was_pruned(name, tmp_path):
    def build():
        return AROUND[name](built())

    pruned = mipp.prune(build(), [images()], images=32)
    assert kept(pruned) == kept(mipp.prune(built(), [images()], images=32))
    pruned.save(tmp_path / "net.safetensors")
    again = mipp.load(tmp_path / "net.safetensors", build=build)
    with torch.no_grad():
        torch.testing.assert_close(again(images()), pruned.model(images()))


@pytest.mark.parametrize("name", sparing(WITHIN, "compiled part", "compiled function"))
def test_what_is_wrapped_within_a_network_is_pruned_as_it_is_written(name):
    plain = {"act": F.silu} if "act" in WITHIN[name] else {}
    wanted = mipp.prune(built(**plain), [images()], images=32)
    found = mipp.prune(built(**WITHIN[name]), [images()], images=32)
    assert kept(found) == kept(wanted)
    with torch.no_grad():
        torch.testing.assert_close(found.model(images()), wanted.model(images()))


class ToBeQuantised(nn.Module):
    """A residual step by modules that a conversion will replace."""

    def __init__(self, join):
        super().__init__()
        self.quant, self.dequant = (
            torch.ao.quantization.QuantStub(),
            torch.ao.quantization.DeQuantStub(),
        )
        self.stem, self.inner, self.back = (
            nn.Conv2d(3, 12, 3),
            nn.Conv2d(12, 8, 1),
            nn.Conv2d(8, 12, 1),
        )
        self.joins, self.join, self.head = FloatFunctional(), join, nn.LazyLinear(3)

    def forward(self, x):
        x = self.stem(self.quant(x))
        x = self.join(self.joins, x, self.back(self.inner(x).relu()))
        return self.dequant(self.head(x.mean((2, 3))))


def to_be_quantised(join):
    net = ToBeQuantised(join)
    net(images()[:1])
    return net


KINDS = {
    "added": Kind(lambda: to_be_quantised(lambda f, x, y: f.add(x, y)), (3, 8, 8), 0.1),
    "added and rectified": Kind(
        lambda: to_be_quantised(lambda f, x, y: f.add_relu(x, y)), (3, 8, 8), 0.1
    ),
    "gated": Kind(lambda: to_be_quantised(lambda f, x, y: f.mul(x, y.sigmoid())), (3, 8, 8), 0.1),
    "joined": Kind(lambda: to_be_quantised(lambda f, x, y: f.cat([x, y], 1)), (3, 8, 8), 0.1),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)
