"""Norms of constants, one for each channel, held as buffers: they are cut with their channels."""

from functools import partial

import torch
from kinds import Kind, checks_of
from oracles import Net
from torch import nn

from mipp.vision import torchvision


class Frozen(nn.Module):
    """A batch-norm of constants, as detection backbones have."""

    def __init__(self, channels):
        super().__init__()
        for name in ("weight", "bias", "mean", "var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x):
        scale = self.weight * (self.var + 1e-5).rsqrt()
        shift = self.bias - self.mean * scale
        return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


class Standardised(nn.Module):
    """Channels with means and deviations that are not saved, laid out for the map."""

    def __init__(self, channels):
        super().__init__()
        mean, std = torch.randn(1, channels, 1, 1), torch.rand(channels, 1, 1) + 0.5
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x):
        return (x - self.mean) / self.std


def frozen_stream():
    """A residual stream with torchvision's frozen norms."""

    def forward(net, x):
        x = net.one(net.stem(x)).relu()
        x = (x + net.three(net.second(net.two(net.first(x)).relu()))).relu()
        return net.head(x.mean((2, 3)))

    frozen = torchvision.ops.FrozenBatchNorm2d
    net = Net(
        forward,
        stem=nn.Conv2d(3, 12, 3),
        one=frozen(12),
        first=nn.Conv2d(12, 12, 3, padding=1, bias=False),
        two=frozen(12),
        second=nn.Conv2d(12, 12, 3, padding=1, bias=False),
        three=frozen(12),
        head=nn.Linear(12, 5),
    )
    for buffer in net.buffers():
        buffer.uniform_(0.5, 1.5)
    return net


class Scaled(nn.Module):
    """A scale and a shift from a table, as where a network serves two kinds of data."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("table", torch.rand(2, 2, channels) + 0.5)

    def forward(self, x):
        scale, shift = self.table[1].unbind(0)
        return x * scale[:, None, None] + shift[:, None, None]


class Whitened(nn.Module):
    """Constants for the channels of tokens, and deviations that are learned."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.randn(channels))
        self.std = nn.Parameter(torch.rand(channels) + 0.5)

    def forward(self, x):
        return torch.addcdiv(torch.zeros_like(x), x - self.mean, self.std)


class ByFunction(nn.Module):
    """A batch-norm of torch's function, its statistics and factors under names of its own."""

    def __init__(self, channels, *, learns=True, of_batch=False):
        super().__init__()
        self.of_batch = of_batch
        self.gain = nn.Parameter(torch.rand(channels) + 0.5) if learns else None
        self.offset = nn.Parameter(torch.randn(channels)) if learns else None
        for name in () if of_batch else ("seen_mean", "seen_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x):
        if self.of_batch:
            return nn.functional.batch_norm(x, None, None, self.gain, self.offset, True)
        seen = self.seen_mean, self.seen_var
        return nn.functional.batch_norm(x, *seen, self.gain, self.offset, self.training)


class ForDomains(nn.Module):
    """A batch-norm whose statistics are those of one of two domains, its factors near one."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("means", torch.randn(2, channels))
        self.register_buffer("variances", torch.rand(2, channels) + 0.5)
        self.gain = nn.Parameter(torch.randn(channels) / 4)

    def forward(self, x):
        seen = self.means[1], self.variances[1]
        return nn.functional.batch_norm(x, *seen, 1 + self.gain, None, False)


def chain(norm):
    """Two convolutions, each with a norm, before the head."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        norm(12),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3),
        norm(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def tokens():
    """Tokens of a residual stream, whitened before each perceptron."""

    def forward(net, x):
        x = net.stem(x)
        x = x + net.back(net.wide(net.one(x)).relu())
        return net.head(net.two(x).mean(1))

    return Net(
        forward,
        stem=nn.Linear(5, 12),
        one=Whitened(12),
        wide=nn.Linear(12, 16),
        back=nn.Linear(16, 12),
        two=Whitened(12),
        head=nn.Linear(12, 3),
    )


def depthwise():
    """torchvision's frozen norms around a depthwise convolution."""
    frozen = torchvision.ops.FrozenBatchNorm2d
    net = nn.Sequential(
        *(nn.Conv2d(3, 12, 1, bias=False), frozen(12), nn.ReLU6()),
        *(nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), frozen(12), nn.ReLU6()),
        *(nn.Conv2d(12, 8, 1, bias=False), frozen(8)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    )
    for buffer in net.buffers():
        buffer.uniform_(0.5, 1.5)
    return net


KINDS = {
    "constants per channel": Kind(lambda: chain(Frozen), (3, 8, 8), 0.05),
    "constants that are not saved": Kind(lambda: chain(Standardised), (3, 8, 8), 0.05),
    "constants, stream": Kind(frozen_stream, (3, 8, 8), 0.02),
    "constants, depthwise": Kind(depthwise, (3, 8, 8), 0.06),
    "constants of a table": Kind(lambda: chain(Scaled), (3, 8, 8), 0.05),
    "batch norm by function": Kind(lambda: chain(ByFunction), (3, 8, 8), 0.05),
    "batch norm by function, not learned": Kind(
        lambda: chain(partial(ByFunction, learns=False)), (3, 8, 8), 0.05
    ),
    "batch norm by function, of the batch": Kind(
        lambda: chain(partial(ByFunction, of_batch=True)), (3, 8, 8), 0.05
    ),
    "batch norm by function, for domains": Kind(lambda: chain(ForDomains), (3, 8, 8), 0.05),
    "constants of tokens": Kind(tokens, (4, 5), 0.02),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)
