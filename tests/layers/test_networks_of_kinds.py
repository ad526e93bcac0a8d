"""Small networks of each kind of layer, pruned as a user gets it by default."""

import warnings

import numpy as np
import pytest
import torch
from kinds import Kind, built, checks_of, flops
from oracles import Net
from torch import nn

from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.selection.selection import Selection


def waves():
    """1-D convolutions with a dilated residual branch."""

    def forward(net, x):
        x = net.norm(net.stem(x)).relu()
        x = x + net.back(net.dilated(x).tanh())
        return net.head(x.relu().amax(-1))

    return Net(
        forward,
        stem=nn.Conv1d(2, 16, 5, 2, 2),
        norm=nn.BatchNorm1d(16),
        dilated=nn.Conv1d(16, 16, 3, padding=4, dilation=4, padding_mode="circular"),
        back=nn.Conv1d(16, 16, 1),
        head=nn.Linear(16, 5),
    )


def separable_1d():
    """Depthwise and pointwise 1-D convolutions, flattened before the head."""
    return nn.Sequential(
        nn.Conv1d(2, 12, 3),
        nn.ReLU(),
        nn.Conv1d(12, 12, 3, groups=12, bias=False),
        nn.Conv1d(12, 16, 1),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(4),
        nn.Flatten(),
        nn.Linear(64, 5),
    )


def skips_1d():
    """A U-Net over signals: pooling, a transposed convolution, a concatenation."""

    def forward(net, x):
        a = net.down(x).relu()
        b = net.deep(nn.functional.max_pool1d(a, 2)).relu()
        up = net.up(b).relu()
        wide = nn.functional.interpolate(b, scale_factor=2, mode="linear")
        return net.out(torch.cat([a, up, wide], 1))

    return Net(
        forward,
        down=nn.Conv1d(2, 8, 3, padding=1),
        deep=nn.Conv1d(8, 16, 3, padding=1, padding_mode="reflect"),
        up=nn.ConvTranspose1d(16, 8, 2, 2),
        out=nn.Conv1d(32, 3, 1),
    )


def volumes():
    """A residual block over volumes."""

    def forward(net, x):
        x = net.norm(net.stem(x)).relu()
        x = (x + net.second(net.first(x).relu())).relu()
        return net.head(nn.functional.adaptive_avg_pool3d(x, 1).flatten(1))

    return Net(
        forward,
        stem=nn.Conv3d(1, 12, 3, (1, 2, 2), 1),
        norm=nn.BatchNorm3d(12),
        first=nn.Conv3d(12, 12, 3, padding=1, bias=False),
        second=nn.Conv3d(12, 12, 3, padding=1, padding_mode="replicate"),
        head=nn.Linear(12, 5),
    )


def space_and_time():
    """Convolutions over space and over time in turn, a depthwise one among them."""
    return nn.Sequential(
        nn.Conv3d(2, 8, (1, 3, 3), padding=(0, 1, 1)),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.Conv3d(8, 16, (3, 1, 1), padding=(1, 0, 0)),
        nn.ReLU(),
        nn.AvgPool3d((1, 2, 2)),
        nn.Conv3d(16, 16, 3, padding=1, groups=16),
        nn.Conv3d(16, 8, 1),
        nn.ReLU(),
        nn.AdaptiveMaxPool3d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def skips_3d():
    """A U-Net over volumes."""

    def forward(net, x):
        a = net.down(x).relu()
        b = net.deep(nn.functional.max_pool3d(a, 2)).relu()
        wide = nn.functional.interpolate(b, scale_factor=2, mode="trilinear")
        return net.out(torch.cat([a, net.up(b).relu(), wide], 1))

    return Net(
        forward,
        down=nn.Conv3d(1, 6, 3, padding=1),
        deep=nn.Conv3d(6, 12, 3, padding=1),
        up=nn.ConvTranspose3d(12, 6, 2, 2),
        out=nn.Conv3d(24, 2, 1),
    )


def chain(norm, act=nn.ReLU, width=12):
    """Two convolutions, each with a norm and an activation, before the head."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        norm(width),
        act(),
        nn.Conv2d(width, width, 3),
        norm(width),
        act(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


def grouped_stream():
    """A residual stream that two group-norms part in different ways."""

    def forward(net, x):
        x = net.stem(x)
        x = x + net.first(net.two(x).relu())
        x = x + net.second(net.three(x).relu())
        return net.head(net.last(x).mean((2, 3)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 24, 3),
        two=nn.GroupNorm(2, 24),
        first=nn.Conv2d(24, 24, 1),
        three=nn.GroupNorm(4, 24),
        second=nn.Conv2d(24, 24, 1),
        last=nn.GroupNorm(1, 24),
        head=nn.Linear(24, 5),
    )


def grouped_skips():
    """A U-Net whose group-norm runs over a concatenation, group by group of one part."""

    def forward(net, x):
        a = net.norm(net.down(x)).relu()
        b = net.deep(nn.functional.avg_pool2d(a, 2))
        up = nn.functional.interpolate(b, scale_factor=2)
        return net.out(net.joint(torch.cat([a, up], 1)).relu())

    return Net(
        forward,
        down=nn.Conv2d(3, 8, 3, padding=1),
        norm=nn.GroupNorm(2, 8),
        deep=nn.Conv2d(8, 16, 3, padding=1),
        joint=nn.GroupNorm(3, 24),
        out=nn.Conv2d(24, 3, 1),
    )


def grouped_signals():
    """Group-norms over signals."""
    return nn.Sequential(
        nn.Conv1d(2, 12, 3),
        nn.GroupNorm(2, 12),
        nn.SiLU(),
        nn.Conv1d(12, 12, 3),
        nn.GroupNorm(12, 12),
        nn.SiLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def styled():
    """Instance-norms in a residual block with transposed convolutions, as in style transfer."""

    def forward(net, x):
        x = net.one(net.stem(x)).relu()
        x = x + net.two(net.inner(x))
        return net.out(net.three(net.up(x)).relu())

    return Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, 2, 1, padding_mode="reflect"),
        one=nn.InstanceNorm2d(12),
        inner=nn.Conv2d(12, 12, 3, padding=1, bias=False),
        two=nn.InstanceNorm2d(12, affine=True),
        up=nn.ConvTranspose2d(12, 8, 4, 2, 1),
        three=nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        out=nn.Conv2d(8, 3, 3, padding=1),
    )


def slopes():
    """Slopes per channel, after a sum and over flattened features."""

    def forward(net, x):
        x = net.one(net.stem(x))
        x = net.two(x + net.inner(x)).flatten(1)
        return net.head(net.three(net.hidden(x)))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 8, 3, 2),
        one=nn.PReLU(8),
        inner=nn.Conv2d(8, 8, 3, padding=1),
        two=nn.PReLU(8),
        hidden=nn.Linear(72, 12),
        three=nn.PReLU(12),
        head=nn.Linear(12, 3),
    )
    for name in ("one", "two", "three"):
        nn.init.uniform_(net.get_submodule(name).weight, -0.5, 0.5)
    return net


def gated_halves():
    """Gated linear units over channels and over tokens."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3),
        nn.BatchNorm2d(24),
        nn.GLU(1),
        nn.Conv2d(12, 8, 3),
        nn.Flatten(2),
        nn.GLU(1),
        nn.Flatten(),
        nn.Linear(16, 20),
        nn.GLU(),
        nn.Linear(10, 3),
    )


def patches():
    """Patches laid out as channels and put back, and channels laid out as pixels."""

    def forward(net, x):
        y = nn.functional.unfold(net.stem(x), 2, stride=2)
        y = net.norm(net.mix(y)).relu()
        y = nn.functional.fold(y, (8, 8), 2, stride=2)
        return net.out(nn.functional.pixel_shuffle(net.wide(y), 2).relu())

    return Net(
        forward,
        stem=nn.Conv2d(3, 6, 3, padding=1),
        mix=nn.Conv1d(24, 24, 1),
        norm=nn.BatchNorm1d(24),
        wide=nn.Conv2d(6, 16, 1),
        out=nn.Conv2d(4, 2, 3),
    )


class Blur(nn.Module):
    """A blur whose kernels are a buffer, one for each channel or one for all."""

    def __init__(self, channels, one):
        super().__init__()
        self.channels = None if one else channels
        kernels = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).expand(
            1 if one else channels, 1, 3, 3
        )
        self.register_buffer("kernels", kernels.clone() / 16, persistent=False)

    def forward(self, x):
        x = nn.functional.pad(x, [1, 1, 1, 1], mode="reflect")
        groups = self.channels or x.shape[1]
        kernels = self.kernels.expand(groups, 1, 3, 3)
        return nn.functional.conv2d(x, kernels, stride=2, groups=groups)


def blurred(one):
    """Antialiased strides, in a residual block and before it."""

    def forward(net, x):
        x = net.before(net.stem(x).relu())
        x = net.skip(nn.functional.avg_pool2d(x, 2)) + net.last(net.inside(net.first(x).relu()))
        return net.head(x.relu().mean((2, 3)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, padding=1),
        before=Blur(12, one),
        first=nn.Conv2d(12, 10, 3, padding=1),
        inside=Blur(10, one),
        last=nn.Conv2d(10, 12, 1),
        skip=nn.Conv2d(12, 12, 1),
        head=nn.Linear(12, 3),
    )


class Scale(nn.Module):
    """A scale of every channel, laid out by a shape that the module keeps."""

    def __init__(self, channels):
        super().__init__()
        self.shape, self.scale = (channels, 1, 1), nn.Parameter(torch.rand(channels) + 0.5)

    def forward(self, x):
        return x * self.scale.view(self.shape)


def scaled_stream():
    """A residual stream with scaled branches, as in PoolFormer."""

    def forward(net, x):
        x = net.stem(x)
        x = net.one(x) + net.two(nn.functional.avg_pool2d(x, 3, 1, 1) - x)
        return net.head((x + net.three(net.back(net.wide(x).relu()))).mean((2, 3)))

    scales = {name: Scale(12) for name in ("one", "two", "three")}
    layers = {"wide": nn.Conv2d(12, 20, 1), "back": nn.Conv2d(20, 12, 1)}
    return Net(forward, stem=nn.Conv2d(3, 12, 3), **layers, **scales, head=nn.Linear(12, 3))


def selective():
    """Branches that are stacked and weighed by a softmax for every channel, as in SK-Net."""

    def forward(net, x):
        x = net.stem(x).relu()
        y = torch.stack([net.one(x).relu(), net.two(x).relu()], 1)
        hidden = net.squeeze(y.sum(1).mean((2, 3))).relu()
        weights = torch.stack([net.of_one(hidden), net.of_two(hidden)], 1).softmax(1)
        return net.head((y * weights[..., None, None]).sum(1).mean((2, 3)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, padding=1),
        one=nn.Conv2d(12, 10, 3, padding=1),
        two=nn.Conv2d(12, 10, 3, padding=2, dilation=2),
        squeeze=nn.Linear(10, 6),
        of_one=nn.Linear(6, 10),
        of_two=nn.Linear(6, 10),
        head=nn.Linear(10, 3),
    )


def noted_places():
    """Pooling that notes its places, and is undone there."""

    def forward(net, x):
        y, places = nn.functional.max_pool2d(net.stem(x).relu(), 2, return_indices=True)
        y = nn.functional.max_unpool2d(net.inner(y), places, 2)
        return net.out(y)

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 3, padding=1),
        inner=nn.Conv2d(8, 8, 3, padding=1),
        out=nn.Conv2d(8, 2, 3),
    )


def computed(of_conv, of_linear):
    """Layers whose weights are computed from others, in a stream and in a perceptron."""

    def forward(net, x):
        x = net.stem(x).relu()
        x = x + net.back(net.inner(x).relu())
        return net.head(net.hidden(net.up(x).relu().mean((2, 3))).relu())

    return Net(
        forward,
        stem=of_conv(nn.Conv2d(3, 12, 3)),
        inner=of_conv(nn.Conv2d(12, 8, 3, padding=1, bias=False)),
        back=of_conv(nn.Conv2d(8, 12, 1)),
        up=of_conv(nn.ConvTranspose2d(12, 8, 2, 2)),
        hidden=of_linear(nn.Linear(8, 8)),
        head=nn.Linear(8, 3),
    )


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


weight_norm, spectral_norm, orthogonal = (
    nn.utils.parametrizations.weight_norm,
    nn.utils.parametrizations.spectral_norm,
    nn.utils.parametrizations.orthogonal,
)


KINDS = {
    "conv 1d, dilated": Kind(waves, (2, 32), 0.05),
    "conv 1d, separable": Kind(separable_1d, (2, 24), 0.1),
    "conv 1d, skips": Kind(skips_1d, (2, 16), 0.06),
    "conv 3d, residual": Kind(volumes, (1, 4, 8, 8), 0.02),
    "conv 3d, factorised": Kind(space_and_time, (2, 4, 8, 8), 0.05),
    "conv 3d, skips": Kind(skips_3d, (1, 4, 4, 4), 0.1),
    "group norm, stream": Kind(grouped_stream, (3, 6, 6), 0.17),
    "group norm, skips": Kind(grouped_skips, (3, 8, 8), 0.4),
    "group norm 1d": Kind(grouped_signals, (2, 16), 0.12),
    "instance norm, styled": Kind(styled, (3, 8, 8), 0.06),
    "instance norm 1d": Kind(
        lambda: nn.Sequential(
            nn.Conv1d(2, 8, 3),
            nn.InstanceNorm1d(8, affine=True),
            nn.ReLU(),
            nn.Conv1d(8, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 4),
        ),
        (2, 16),
        0.14,
    ),
    "instance norm 3d": Kind(
        lambda: nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1),
            nn.InstanceNorm3d(8, track_running_stats=True),
            nn.ReLU(),
            nn.Conv3d(8, 3, 3),
        ),
        (1, 4, 5, 5),
        0.14,
    ),
    "synchronised batch norm": Kind(lambda: chain(nn.SyncBatchNorm), (3, 8, 8), 0.05),
    "prelu": Kind(slopes, (3, 8, 8), 0.1),
    "prelu, one slope": Kind(lambda: chain(nn.BatchNorm2d, nn.PReLU), (3, 8, 8), 0.05),
    "prelu 1d": Kind(
        lambda: nn.Sequential(
            nn.Conv1d(2, 8, 3), nn.PReLU(8), nn.Conv1d(8, 8, 3), nn.PReLU(8), nn.Conv1d(8, 2, 3)
        ),
        (2, 12),
        0.15,
    ),
    "gated linear units": Kind(gated_halves, (3, 6, 6), 0.15),
    "patches": Kind(patches, (3, 8, 8), 0.3),
    "weight norm": Kind(lambda: computed(weight_norm, weight_norm), (3, 6, 6), 0.1),
    "weight norm, old": Kind(lambda: computed(old_weight_norm, old_weight_norm), (3, 6, 6), 0.1),
    "spectral norm": Kind(lambda: computed(spectral_norm, spectral_norm), (3, 6, 6), 0.1),
    "spectral norm, old": Kind(
        lambda: computed(nn.utils.spectral_norm, nn.utils.spectral_norm), (3, 6, 6), 0.1
    ),
    "orthogonal": Kind(lambda: computed(weight_norm, orthogonal), (3, 6, 6), 0.1),
    "blurred": Kind(lambda: blurred(False), (3, 8, 8), 0.06),
    "blurred by one kernel": Kind(lambda: blurred(True), (3, 8, 8), 0.06),
    "scaled stream": Kind(scaled_stream, (3, 8, 8), 0.04),
    "selective branches": Kind(selective, (3, 8, 8), 0.02),
    "noted places": Kind(noted_places, (3, 8, 8), 0.15),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


@pytest.mark.parametrize("name", ["blurred", "blurred by one kernel", "scaled stream"])
def test_graph_predicts_what_the_cut_network_multiplies(name):
    model, x = built(KINDS[name], 0)
    graph = build_graph(model, x[:1])
    kept = {group: np.arange(1 + width // 3) for group, width in graph.widths.items()}
    cut = apply_selection(model, Selection(kept, dict(graph.widths), "test"), x[:1])
    assert 2 * graph.macs({group: len(some) for group, some in kept.items()}) == flops(cut, x[:1])
