"""Transposed convolutions as makers and readers, in one, two and three dimensions."""

import torch
from kinds import Kind, checks_of
from oracles import Net
from torch import nn


def generator():
    """Images from noise, with strides that do not divide the kernel."""
    return nn.Sequential(
        nn.ConvTranspose2d(8, 32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 5, 3, dilation=2),
        nn.Tanh(),
    )


def skips():
    """A U-Net with transposed convolutions, one of which is added to another branch."""

    def forward(net, x):
        a = net.down(x).relu()
        b = net.deep(nn.functional.max_pool2d(a, 2)).relu()
        c = net.up(b) + net.side(a)
        return net.out(torch.cat([a, c.relu()], 1))

    return Net(
        forward,
        down=nn.Conv2d(3, 8, 3, padding=1),
        deep=nn.Conv2d(8, 16, 3, padding=1),
        up=nn.ConvTranspose2d(16, 8, 4, 2, 1),
        side=nn.Conv2d(8, 8, 1),
        out=nn.Conv2d(16, 3, 1),
    )


def grouped_decoder():
    """Transposed convolutions in groups, each channel of its own and with others."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, groups=4),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 3, 1),
    )


def signals():
    """A decoder of signals, whose strides leave gaps between what they spread."""
    return nn.Sequential(
        nn.ConvTranspose1d(6, 16, 3, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.ConvTranspose1d(16, 12, 2, 3, output_padding=1),
        nn.LeakyReLU(0.1),
        nn.ConvTranspose1d(12, 12, 4, 2, 1, groups=12),
        nn.Conv1d(12, 2, 3),
    )


def autoencoder():
    """An encoder of signals and its mirror, with a residual sum at each width."""

    def forward(net, x):
        a = net.first(x).relu()
        b = net.second(a).relu()
        a = a + net.third(b + net.inner(b)).relu()
        return net.fourth(a)

    return Net(
        forward,
        first=nn.Conv1d(2, 8, 4, 2, 1),
        second=nn.Conv1d(8, 12, 4, 2, 1),
        inner=nn.Conv1d(12, 12, 1),
        third=nn.ConvTranspose1d(12, 8, 4, 2, 1),
        fourth=nn.ConvTranspose1d(8, 2, 4, 2, 1),
    )


def branches():
    """Two transposed convolutions of one map, concatenated and summed with a third."""

    def forward(net, x):
        y = net.stem(x).relu()
        wide = torch.cat([net.left(y), net.right(y).tanh()], 1) + net.both(y)
        return net.out(net.norm(wide).relu())

    return Net(
        forward,
        stem=nn.Conv2d(3, 10, 3),
        left=nn.ConvTranspose2d(10, 6, 2, 2),
        right=nn.ConvTranspose2d(10, 4, 2, 2, bias=False),
        both=nn.ConvTranspose2d(10, 10, 4, 2, 1),
        norm=nn.BatchNorm2d(10),
        out=nn.Conv2d(10, 3, 1),
    )


def volumes():
    """A generator of volumes."""
    return nn.Sequential(
        nn.ConvTranspose3d(8, 16, 2),
        nn.BatchNorm3d(16),
        nn.ReLU(),
        nn.ConvTranspose3d(16, 8, (1, 2, 2), (1, 2, 2), bias=False),
        nn.InstanceNorm3d(8, affine=True),
        nn.ReLU(),
        nn.ConvTranspose3d(8, 1, 3, padding=1),
    )


KINDS = {
    "transposed conv, generator": Kind(generator, (8, 2, 2), 0.04),
    "transposed conv, skips": Kind(skips, (3, 8, 8), 0.04),
    "transposed conv, grouped": Kind(grouped_decoder, (3, 9, 9), 0.12),
    "transposed conv, branches": Kind(branches, (3, 6, 6), 0.04),
    "transposed conv 1d": Kind(signals, (6, 3), 0.06),
    "transposed conv 1d, autoencoder": Kind(autoencoder, (2, 16), 0.04),
    "transposed conv 3d": Kind(volumes, (8, 1, 2, 2), 0.08),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)
