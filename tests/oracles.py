"""Answers known before the code runs: closed forms, slow twins, and networks small enough to see.

Twins are written from the formulas, in numpy and float64, and share no code with `mipp`.
"""

import contextlib
import functools
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mipp.activations import Sampling, capture_rows
from mipp.cut import apply_selection
from mipp.evaluation import evaluating
from mipp.graph import build_graph
from mipp.graph.kept_statistics import KeptReductions
from mipp.graph.record import Reduction
from mipp.information import gaussian, moments
from mipp.information.patches import CHANNELS as PATCH_CHANNELS
from mipp.inputs import tensors_in
from mipp.models import MODELS, ModelSpec, build_model, preferred_input
from mipp.models.resnet_cifar import CifarResNet
from mipp.selection.rules import Consumer, Threshold
from mipp.selection.selection import Selection
from mipp.selection.visits import visit_once, visiting_order

# Closed forms


def bivariate_normal_nats(rho):
    """I(X; Y) of two normals with correlation rho: -1/2 ln(1 - rho^2)."""
    return -0.5 * math.log(1 - rho**2)


def normal_nats(covariance, split):
    """I(X; Y) of jointly normal x (first `split` rows) and y: 1/2 ln(|Sx| |Sy| / |Sxy|)."""
    logs = [
        np.linalg.slogdet(part)[1]
        for part in (covariance[:split, :split], covariance[split:, split:], covariance)
    ]
    return 0.5 * (logs[0] + logs[1] - logs[2])


def total_correlation(covariance):
    """1/2 ln(prod of variances / determinant): what normals share among themselves."""
    return 0.5 * (np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1])


def entropy(rows):
    """Nats of the empirical distribution of the rows."""
    counts = np.unique(np.asarray(rows), axis=0, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def discrete_nats(x, y):
    """I(X; Y) of equally likely rows, by counting."""
    both = np.column_stack([x, y])
    return entropy(x) + entropy(y) - entropy(both)


# TERC's toy sets: A = [x1 = x2 = x3] of fair bits, the columns being copies of the bits

TERC_SETS = {"x1 copied three times more": (0, 0, 0, 0, 1, 2), "triple doubled": (0, 0, 1, 1, 2, 2)}
TERC_NATS = -(math.log(1 / 4) / 4 + 3 * math.log(3 / 4) / 4)  # the entropy of A: 0.5623


def all_equal(bits):
    """A of bits (n, 3), as classes (n,)."""
    return (np.ptp(np.asarray(bits), axis=1) == 0).astype(np.int64)


def nats_of_bits(bits):
    """I(those bits; A) exactly, over the eight states."""
    states = all_states(3)
    return discrete_nats(states[:, sorted(bits)], all_equal(states)) if bits else 0.0


# The closed form's slow twin


class RefitTwin:
    """Ridge regression solved anew for every question; x (n, channels, block), y (n, m).

    The ridge and the noise floor tau * variance are those of the full problem, whatever has been
    dropped.
    """

    def __init__(self, x, y, *, ridge, resolution):
        n, self.channels, self.block = x.shape
        x, y = np.asarray(x, float).reshape(n, -1), np.asarray(y, float)
        x, y = x - x.mean(0), y - y.mean(0)
        self.xx, self.xy, self.variance = x.T @ x / n, x.T @ y / n, (y**2).mean(0)
        self.xx += ridge * np.trace(self.xx) / len(self.xx) * np.eye(len(self.xx))
        self.floor = resolution * self.variance

    def residual(self, kept):
        """Variance of each target that the kept channels leave, (m,)."""
        features = (
            np.array(sorted(kept), int)[:, None] * self.block + np.arange(self.block)
        ).ravel()
        cross = self.xy[features]
        weights = np.linalg.solve(self.xx[np.ix_(features, features)], cross)
        return self.variance - (cross * weights).sum(0)

    def information(self, kept, targets=slice(None)):
        ratio = (self.variance + self.floor) / (self.residual(kept) + self.floor)
        return 0.5 * np.log(ratio[targets]).sum()

    def loss(self, kept, channel, targets=slice(None)):
        """Nats that go with a channel when the rest of `kept` stays."""
        after = self.residual(set(kept) - {channel}) + self.floor
        return 0.5 * np.log(after / (self.residual(kept) + self.floor))[targets].sum()


def visit_once_twin(twin, threshold, floor):
    """Kept channels of TERC in the order of single information, by refits alone."""
    kept = set(range(twin.channels))
    for channel in sorted(kept, key=lambda c: twin.information([c])):
        if twin.loss(kept, channel) < threshold and len(kept) > floor:
            kept.remove(channel)
    return sorted(kept)


def best_first_twin(twin, threshold, floor):
    """Kept channels when those that add least go first, a sixteenth a round, by refits alone."""
    kept = set(range(twin.channels))
    while len(kept) > floor:
        losses = {c: twin.loss(kept, c) for c in kept}
        ranked = sorted(kept, key=losses.get)
        size = max(1, len(kept) // 16)
        others = [losses[c] for c in ranked[size:]] or [np.inf]
        gone = 0
        for channel in ranked[:size]:
            loss = twin.loss(kept, channel)
            if loss < threshold and loss <= min(others) and len(kept) > floor:
                kept.remove(channel)
                gone += 1
        if not gone:
            break
    return sorted(kept)


def patch_rows(seed, images, side, *, channels=PATCH_CHANNELS, offset=0.0):
    """Rows (n, channels, 9) of a 3 x 3 kernel at all positions of maps, in float32."""
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.normal(offset, 1, (images, channels, side, side))).relu().float()
    rows = F.unfold(maps, 3, padding=1).view(images, channels, 9, side * side)
    return rows.permute(0, 3, 1, 2).flatten(0, 1)


def patch_targets(seed, n):
    """Targets (n, 5) of as many rows, in float32."""
    return torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(n, 5))).float()


def rows_of_pair(rng, *, n, channels, block, targets, noise=0.5):
    """Correlated features (n, channels, block) and targets (n, targets) that depend on them."""
    mixing = np.eye(channels * block) + 0.3 * rng.normal(size=(channels * block,) * 2)
    x = rng.normal(size=(n, channels * block)) @ mixing
    y = x @ rng.normal(size=(channels * block, targets)) + noise * rng.normal(size=(n, targets))
    return x.reshape(n, channels, block), y


def prepare_rows(x, y, *, ridge=1e-3, resolution=0.1):
    """The closed form's state of rows x (n, channels[, block]) and y (n, m)."""
    sums = moments.of_rows(torch.as_tensor(x), torch.as_tensor(y))
    return gaussian.prepare(sums, x.shape[1], ridge=ridge, resolution=resolution)


def decide(walk, x, y, threshold, *, floor=0, **settings):
    """Verdicts of one of TERC's walks over the channels of x, all targets counting."""
    state = prepare_rows(x, y, **settings)
    targets = torch.arange(y.shape[1])
    single = state.single(targets)
    if walk is visit_once:
        elimination = state.eliminate_in_order(targets, visiting_order(single))
    else:
        elimination = state.eliminate(targets)
    return walk([Consumer(elimination)], single, Threshold(threshold), floor)


# Slow twins of the other layers


def unfolded_rows(conv, x):
    """Input patches of a convolution at every position, (n * positions, in channels, kernel).

    Padding is laid out as torch documents it: `same` puts the odd pixel at the end.
    """
    total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    both = {
        "valid": [(0, 0)] * len(total),
        "same": [(t // 2, t - t // 2) for t in total],
    }.get(conv.padding) or [(p, p) for p in conv.padding]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    patches = F.pad(x, [size for sides in reversed(both) for size in sides], mode=mode)
    for axis, (reach, stride, dilation) in enumerate(
        zip(total, conv.stride, conv.dilation, strict=True), start=2
    ):
        patches = patches.unfold(axis, reach + 1, stride)[..., ::dilation]
    axes = len(total)  # patches are (n, channels, *positions, *kernel)
    return patches.movedim(1, 1 + axes).flatten(0, axes).flatten(2)


def ridge_twin(x, y, old, ridge, *, offset):
    """Weights (d, m) and offsets (m,) nearest y = x W + b, pulled toward `old`; by stacked rows.

    The pull is `ridge` times the mean square of the inputs, about their mean where there is an
    offset to take it and about zero where there is none.
    """
    x_mean, y_mean = (x.mean(0), y.mean(0)) if offset else (0 * x[0], 0 * y[0])
    x, y = x - x_mean, y - y_mean
    pull = np.sqrt(len(x) * ridge * (x**2).mean()) * np.eye(x.shape[1])
    stacked = np.vstack([x, pull]), np.vstack([y, pull @ old])
    weights = np.linalg.lstsq(*stacked, rcond=None)[0]
    return weights, y_mean - x_mean @ weights


# Networks by name


# One of each kind of network that `mipp.models` builds, but for bottlenecks, of which there is a
# small one below; the deeper ones of a kind are slow.
EACH_KIND = ("lenet-300-100", "lenet5", "lenet5-caffe", "resnet20", "resnet18", "vgg11")
BUILT = [n if n in EACH_KIND else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]


def build_small(name, *, seed=0, classes=10):
    """A network of `mipp.models` in double precision, lively batch-norm statistics, eval mode."""
    spec = small_spec(name, classes)
    model = build_model(spec, seed=seed).double().eval()
    enliven_norms(model, seed)
    return model


def small_spec(name, classes=10):
    size = preferred_input(name)[1]
    return ModelSpec(name, classes, 1 if size == 28 else 3, size)


def small_vit():
    """torchvision's transformer with two layers of four heads, for images of 32 pixels."""
    from mipp.vision import torchvision

    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10)
    nn.init.normal_(model.heads.head.weight, std=0.1)  # which torchvision sets to zero
    return model.double().eval()


def small_resnet(seed=0):
    """ResNet-8 in double precision with lively batch-norm statistics."""
    torch.manual_seed(seed)
    model = CifarResNet(1, 10, 3).double().eval()
    enliven_norms(model, seed)
    return model


def images_for(name, n, seed=0):
    """Normal noise in the shape that the network of that name takes, double precision."""
    spec = small_spec(name)
    generator = torch.Generator().manual_seed(seed)
    shape = (n, spec.channels, spec.size, spec.size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@functools.cache
def graph_of(name):
    """Channel graph of a network of `mipp.models`; shared, for reading only."""
    return build_graph(build_small(name), images_for(name, 1))


@functools.cache
def states_of(name):
    """Prepared closed form of every pair of a network of `mipp.models` on random images."""
    images = images_for(name, 16)
    rows = capture_rows(build_small(name), graph_of(name).pairs, [images], Sampling(640, 16, 0))
    return {pair: prepare_rows(*xy, resolution=1.0) for pair, xy in next(iter(rows)).items()}


def enliven_norms(model, seed=0):
    """Give batch-norm statistics and factors that a mistake cannot hide behind."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(std=0.3, generator=generator)


def random_selection(graph, seed):
    """At least one random channel of every group."""
    rng = np.random.default_rng(seed)
    kept = {
        group: np.sort(rng.choice(width, rng.integers(1, width + 1), replace=False))
        for group, width in graph.widths.items()
    }
    return Selection(kept, dict(graph.widths), "random")


@contextlib.contextmanager
def dropped_channels_zeroed(model, graph, selection):
    """The dense network with each dropped channel zero at the input of every consumer.

    Layer-norms take their statistics over the kept features alone, by the formula; so do means
    that forward itself takes of channels, by the class that tests/graph/test_written_norms.py
    holds against norms built anew.
    """
    zeroed, uncounted, means = {}, {}, {}
    for name, group in graph.groups.items():
        for members, gone in ((group.consumers, zeroed), (group.passengers, uncounted)):
            for member in members:
                features = member.features[selection.dropped(name)].ravel()
                gone.setdefault(member.module, []).extend(features.tolist())
        for one in group.statistics:
            features = one.features[selection.dropped(name)].ravel()
            means.setdefault(Reduction(one.module, one.before, one.axis), []).append(features)
    means = {one: np.concatenate(features) for one, features in means.items()}
    counted = KeptReductions(model, means) if means else contextlib.nullcontext()
    with features_zeroed(model, zeroed, uncounted), counted:
        yield model


@contextlib.contextmanager
def features_zeroed(model, zeroed, uncounted):
    """A network that reads zeros, and whose norms take no account of some features.

    Parameters
    ----------
    zeroed : layer -> features that are zero at its input.
    uncounted : norm -> features that it leaves out of its statistics; other modules stay.
    """
    handles = []
    for name, features in zeroed.items():
        module, gone = model.get_submodule(name), torch.tensor(features, dtype=torch.long)
        last = (nn.Linear, nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN)
        axis = -1 if isinstance(module, last) else 1

        def zero(module, inputs, gone=gone, axis=axis):
            filled = inputs[0].index_fill(axis, gone, 0.0)
            if isinstance(module, nn.MultiheadAttention):
                return (filled,) * len(inputs)
            return (filled, *inputs[1:])

        handles.append(module.register_forward_pre_hook(zero))
    for name, features in uncounted.items():
        module = model.get_submodule(name)
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)):
            groups = isinstance(module, nn.GroupNorm)
            kept = torch.ones(module.num_channels if groups else module.normalized_shape[0]).bool()
            kept[features] = False
            anew = grouped_anew if groups else normalised_anew
            handles.append(module.register_forward_hook(functools.partial(anew, kept)))
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def assert_zeroing(model, graph, selection, images):
    """The network without the dropped channels computes what the one with zeros does."""
    cut = apply_selection(model, selection, images[:1])
    with torch.no_grad(), evaluating(model), evaluating(cut):
        with dropped_channels_zeroed(model, graph, selection):
            expected = in_one(model(images))
        found = in_one(cut(images))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
    assert expected.std() > 0


def in_one(outputs):
    """All tensors of an output side by side, (n, values)."""
    return torch.cat([tensor.flatten(1) for tensor in tensors_in(outputs)], 1)


def normalised_anew(kept, module, inputs, output):
    """A layer-norm's output from the formula, with mean and variance over the kept features."""
    x = inputs[0]
    first = type(module).__name__.startswith("LayerNorm2d")  # those normalise axis 1
    last = not first and getattr(module, "data_format", "") != "channels_first"
    x = x if last else x.movedim(1, -1)
    some = x[..., kept]
    mean = some.mean(-1, keepdim=True) if isinstance(module, nn.LayerNorm) else 0.0
    eps = torch.finfo(x.dtype).eps if module.eps is None else module.eps
    y = (x - mean) / ((some - mean).square().mean(-1, keepdim=True) + eps).sqrt()
    if module.weight is not None:
        y = y * module.weight
    if getattr(module, "bias", None) is not None:
        y = y + module.bias
    return activated(module, y if last else y.movedim(-1, 1))


def grouped_anew(kept, module, inputs, output):
    """A group-norm's output from the formula: each group's statistics over its kept channels."""
    x, y = inputs[0], torch.zeros_like(output)
    for group in torch.arange(module.num_channels).chunk(module.num_groups):
        if not bool(kept[group].any()):
            continue
        some = x[:, group[kept[group]]].flatten(1)
        mean, spread = some.mean(1), (some.var(1, correction=0) + module.eps).sqrt()
        shape = (-1,) + (1,) * (x.ndim - 1)
        y[:, group] = (x[:, group] - mean.view(shape)) / spread.view(shape)
    if module.weight is not None:
        shape = (-1,) + (1,) * (x.ndim - 2)
        y = y * module.weight.view(shape) + module.bias.view(shape)
    return activated(module, y)


def activated(module, y):
    """What norms of timm and transformers do beside: an activation that they hold."""
    for name in ("act", "activation"):
        y = getattr(module, name, nn.Identity())(y)
    return y


# Networks that are small enough to see


class Net(nn.Module):
    """A forward function over named modules."""

    def __init__(self, forward, **modules):
        super().__init__()
        self._run = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self._run(self, x)


def _head(net, x):
    return net.head(x.mean((2, 3)))


def functional_shortcut():
    """A residual block whose shortcut pads channels with F.pad, as many option A networks do."""

    def forward(net, x):
        x = F.relu(net.stem(x))
        inner = net.second(F.relu(net.first(x)))
        return _head(net, F.relu(inner + F.pad(x, (0, 0, 0, 0, 2, 2))))

    return Net(
        forward,
        stem=nn.Conv2d(3, 4, 3, padding=1),
        first=nn.Conv2d(4, 6, 3, padding=1),
        second=nn.Conv2d(6, 8, 3, padding=1),
        head=nn.Linear(8, 3),
    )


def grouped():
    """A grouped convolution in a chain."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1),
        nn.Flatten(),
        nn.Linear(96, 3),
    )


def grouped_branch():
    """A grouped convolution that is added to an ordinary one."""

    def forward(net, x):
        x = F.relu(net.stem(x))
        return _head(net, F.relu(net.last(F.relu(net.plain(x) + net.grouped(x)))))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 3),
        plain=nn.Conv2d(8, 8, 3, padding=1),
        grouped=nn.Conv2d(8, 8, 3, padding=1, groups=2),
        last=nn.Conv2d(8, 5, 3),
        head=nn.Linear(5, 3),
    )


def shared_module():
    """One convolution used twice."""

    def forward(net, x):
        x = F.relu(net.stem(x))
        return _head(net, net.last(F.relu(net.twice(F.relu(net.twice(x))))))

    return Net(
        forward,
        stem=nn.Conv2d(3, 4, 3, padding=1),
        twice=nn.Conv2d(4, 4, 3, padding=1),
        last=nn.Conv2d(4, 5, 3),
        head=nn.Linear(5, 3),
    )


def tied_weights():
    """Two linear modules with one weight."""
    first, second = nn.Linear(12, 12), nn.Linear(12, 12)
    second.weight = first.weight
    wide = (nn.Flatten(), nn.Linear(192, 12), nn.ReLU(), first, nn.ReLU(), second, nn.ReLU())
    return nn.Sequential(*wide, nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def dense_blocks():
    """Concatenation, as in DenseNet, with a batch-norm on every joint."""

    def forward(net, x):
        a = F.relu(net.a(x))
        b = F.relu(net.b(net.norm_a(a)))
        ab = torch.cat([a, b], 1)
        c = F.relu(net.c(net.norm_ab(ab)))
        return _head(net, F.relu(net.norm_abc(torch.cat([ab, c], 1))))

    return Net(
        forward,
        a=nn.Conv2d(3, 4, 3),
        norm_a=nn.BatchNorm2d(4),
        b=nn.Conv2d(4, 5, 3, padding=1),
        norm_ab=nn.BatchNorm2d(9),
        c=nn.Conv2d(9, 6, 3, padding=1),
        norm_abc=nn.BatchNorm2d(15),
        head=nn.Linear(15, 3),
    )


def repeated_slice():
    """A convolution that reads one group twice, around another."""

    def forward(net, x):
        a, b = F.relu(net.a(x)), F.relu(net.b(x))
        return _head(net, F.relu(net.join(torch.cat([a, b, a], 1))))

    return Net(
        forward,
        a=nn.Conv2d(3, 4, 3),
        b=nn.Conv2d(3, 5, 3),
        join=nn.Conv2d(13, 6, 3),
        head=nn.Linear(6, 3),
    )


def depthwise():
    """A depthwise convolution between two ordinary ones."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 6, 1),
        nn.PReLU(6),
        nn.Flatten(),
        nn.Linear(96, 3),
    )


def bottlenecks():
    """Two residual blocks of three convolutions, the first with a shortcut that is convolved."""

    def block(net, x, at, shortcut):
        y = F.relu(net.get_submodule(f"norm{at}")(net.get_submodule(f"narrow{at}")(x)))
        y = F.relu(net.get_submodule(f"middle{at}")(y))
        return F.relu(net.get_submodule(f"wide{at}")(y) + shortcut)

    def forward(net, x):
        x = F.relu(net.stem(x))
        x = block(net, x, 1, net.shortcut(x))
        return _head(net, block(net, x, 2, x))

    layers = {"stem": nn.Conv2d(3, 6, 3), "shortcut": nn.Conv2d(6, 12, 1, stride=2)}
    for at, inputs, stride in ((1, 6, 2), (2, 12, 1)):
        layers[f"narrow{at}"] = nn.Conv2d(inputs, 4, 1, bias=False)
        layers[f"norm{at}"] = nn.BatchNorm2d(4)
        layers[f"middle{at}"] = nn.Conv2d(4, 4, 3, stride=stride, padding=1)
        layers[f"wide{at}"] = nn.Conv2d(4, 12, 1)
    return Net(forward, **layers, head=nn.Linear(12, 3))


def gated():
    """Squeeze and excitation: a gate made from the channels that it multiplies."""

    def forward(net, x):
        x = F.relu(net.stem(x))
        gate = net.excite(F.relu(net.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        return _head(net, x * gate)

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 3),
        squeeze=nn.Conv2d(8, 4, 1),
        excite=nn.Conv2d(4, 8, 1),
        head=nn.Linear(8, 3),
    )


def tokens():
    """Linear layers over the positions of an image, as in a transformer's perceptron."""

    def forward(net, x):
        x = x.flatten(2).transpose(1, 2)  # (n, c, h, w) -> (n, tokens, c)
        return net.last(F.gelu(net.inner(F.gelu(net.stem(x)))).mean(1))

    return Net(forward, stem=nn.Linear(3, 8), inner=nn.Linear(8, 6), last=nn.Linear(6, 3))


def flat_norm():
    """A batch-norm over the flattened features of a convolution."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Flatten(), nn.BatchNorm1d(144), nn.ReLU(), nn.Linear(144, 3)
    )


def one_slope():
    """PReLU with a single slope for all channels, torch's default."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.PReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    )


def transposed_branch():
    """A transposed convolution that is added to an ordinary one."""

    def forward(net, x):
        x = F.relu(net.stem(x))
        return _head(net, F.relu(net.last(F.relu(net.plain(x) + net.transposed(x)))))

    return Net(
        forward,
        stem=nn.Conv2d(3, 4, 3),
        plain=nn.Conv2d(4, 8, 3, padding=1),
        transposed=nn.ConvTranspose2d(4, 8, 3, padding=1),
        last=nn.Conv2d(8, 5, 3),
        head=nn.Linear(5, 3),
    )


OWN_INPUT = (3, 8, 8)
OWN_NETWORKS = {
    make.__name__: make
    for make in (
        functional_shortcut,
        grouped,
        grouped_branch,
        shared_module,
        tied_weights,
        dense_blocks,
        repeated_slice,
        depthwise,
        bottlenecks,
        gated,
        tokens,
        flat_norm,
        one_slope,
        transposed_branch,
    )
}


def build_own(name, seed=0):
    """One of `OWN_NETWORKS` with random weights, in double precision and eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OWN_NETWORKS[name]().double().eval()
    enliven_norms(model, seed)
    return model


def own_images(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, *OWN_INPUT), generator=generator, dtype=torch.float64)


# What mixes a layer's 8 channels before the next one reads them: no channel can go alone.
MIXERS = {
    "softmax": lambda x: x.softmax(1),
    "reversal": lambda x: x.flip(1),
    "swapped halves": lambda x: x.unflatten(1, (2, -1)).flip(1).flatten(1, 2),
    "paired softmax": lambda x: x.unflatten(1, (2, -1)).softmax(1).flatten(1, 2),
    "shuffle": lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
    "channels last": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape),
    "local response": lambda x: F.local_response_norm(x, 3, alpha=10.0),
}


def mixing_network(mixer):
    """Two convolutions with a mixer between them, and a third that nothing mixes."""

    def forward(net, x):
        x = F.relu(net.second(MIXERS[mixer](net.first(x))))
        return _head(net, F.relu(net.third(x)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net(
            forward,
            first=nn.Conv2d(3, 8, 3),
            second=nn.Conv2d(8, 6, 3),
            third=nn.Conv2d(6, 5, 3),
            head=nn.Linear(5, 3),
        )
    return net.double().eval()


def all_states(bits):
    """Every state of that many fair bits, (2^bits, bits)."""
    return np.array(list(itertools.product((0, 1), repeat=bits)), float)
