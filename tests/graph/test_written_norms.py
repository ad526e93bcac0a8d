"""Norms over channels that are written out in forward: cut, they are norms of the kept channels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mipp
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.selection.selection import Selection

WIDTH = 12


class Norm(nn.Module):
    """Factors per channel around a function; axis 1 of maps, the last of tokens."""

    def __init__(self, width, function, last):
        super().__init__()
        self.function, self.last = function, last
        self.scale = nn.Parameter(torch.rand(width) + 0.5)
        self.shift = nn.Parameter(torch.randn(width))

    def forward(self, x):
        if self.last:
            x = x.permute(0, 2, 3, 1)
            return self.function(x, self.scale, self.shift).permute(0, 3, 1, 2)
        return self.function(x, self.scale[:, None, None], self.shift[:, None, None])


def channels_first(x, scale, shift):
    mean = x.mean(1, keepdim=True)
    spread = (x - mean).pow(2).mean(1, keepdim=True)
    return (x - mean) / torch.sqrt(spread + 1e-6) * scale + shift


def by_variance(x, scale, shift):
    variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-6) * scale + shift


def root_mean_square(x, scale, shift):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * scale + shift


def unit_length(x, scale, shift):
    return F.normalize(x, dim=-1) * scale + shift


def response(x, scale, shift):
    """Global response normalisation, of ConvNeXt v2."""
    lengths = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
    shares = lengths / (lengths.mean(-1, keepdim=True) + 1e-6)
    return scale * (x * shares) + shift + x


def over_all(x, scale, shift):
    return (x - x.mean((1, 2, 3), keepdim=True)) * scale + shift


def whole_length(x, scale, shift):
    return x / torch.linalg.vector_norm(x, 1) * scale + shift


def attended(x, scale, shift):
    """Places by the mean and the largest of all channels, as in CBAM."""
    places = (x.mean(1, keepdim=True) + x.max(1, keepdim=True)[0]).sigmoid()
    return x * places * scale + shift


def gated_first(x, scale, shift):
    """A gate of every channel, laid out by sizes that forward reads, before one of every place."""
    images, channels, *_ = x.size()
    gate = F.adaptive_avg_pool2d(x, 1).view(images, channels).sigmoid()
    x = x * gate.view(images, channels, 1, 1)
    return x * x.mean(1, keepdim=True).sigmoid() * scale + shift


def of_rows(x, scale, shift):
    """Channels in rows of places, their means over the channels, and back."""
    images, channels, height, width = x.shape
    rows = x.reshape(images, channels, height * width)
    rows = rows - rows.mean(1, keepdim=True)
    return rows.view(images, channels, height, width) * scale + shift


def as_tokens(x, scale, shift):
    """Places as rows of a table, each of unit length, and back."""
    images, channels, height, width = x.shape
    rows = F.normalize(x.permute(0, 2, 3, 1).reshape(-1, channels), dim=1)
    return rows.view(images, height, width, channels).permute(0, 3, 1, 2) * scale + shift


def of_blocks(x, scale, shift):
    """Blocks of places, each by the largest of all channels."""
    images, channels, height, width = x.size()
    blocks = x.view(images, channels, height // 2, 2, width // 2, 2)
    blocks = blocks / (1 + blocks.abs().amax(1, keepdim=True))
    return blocks.reshape(images, channels, height, width) * scale + shift


NORMS = {
    "channels first": (channels_first, False),
    "by variance": (by_variance, False),
    "root mean square": (root_mean_square, True),
    "unit length": (unit_length, True),
    "response": (response, True),
    "over all": (over_all, False),
    "whole length": (whole_length, True),
    "attended": (attended, False),
    "gated first": (gated_first, False),
    "of rows": (of_rows, False),
    "as tokens": (as_tokens, False),
    "of blocks": (of_blocks, False),
}


def network(name, width=WIDTH, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Conv2d(3, width, 3), Norm(width, *NORMS[name]), nn.ReLU()
        return nn.Sequential(*layers, nn.Conv2d(width, 4, 3)).double().eval()


def images():
    return torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("name", NORMS)
def test_cut_norm_is_the_norm_of_the_kept_channels(name, seed):
    model, x = network(name, seed=seed), images()
    assert build_graph(model, x[:1]).widths == {"0": WIDTH}
    kept = np.sort(np.random.default_rng(seed).permutation(WIDTH)[: 1 + 4 * seed])
    cut = apply_selection(model, Selection({"0": kept}, {"0": WIDTH}, "random"), x[:1])
    small = network(name, len(kept))  # from scratch, with those channels' weights
    for (key, own), whole in zip(small.named_parameters(), model.parameters(), strict=True):
        for axis, size in enumerate(whole.shape):
            whole = whole.index_select(axis, torch.from_numpy(kept)) if size == WIDTH else whole
        small.get_parameter(key).data = whole.detach()
        assert own.shape == whole.shape
    with torch.no_grad():
        torch.testing.assert_close(cut(x), small(x))


@pytest.mark.parametrize("name", NORMS)
def test_default_method_and_repair_meet_the_budget(name):
    model, x = network(name), images()
    found = mipp.prune(model, [x], "macs:0.5", images=32).model

    def flops(net):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net.eval()(x)
        return counter.get_total_flops()

    assert flops(found) <= 0.5 * flops(model)
    found.train()(x).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in found.parameters())


def test_variance_of_one_less_keeps_channels_whole():
    class Spread(nn.Module):
        def forward(self, x):
            return x / x.std(1, keepdim=True)

    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), Spread(), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )
    graph = build_graph(model, torch.randn(1, 3, 4, 4))
    assert list(graph.groups) == ["2"]
    assert "0" in graph.left_whole


class LayerNorm(nn.Module):
    """ConvNeXt's, as its authors wrote it."""

    def __init__(self, width, data_format):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)
        self.bias = nn.Parameter(torch.randn(width))
        self.normalized_shape, self.data_format = (width,), data_format

    def forward(self, x):
        if self.data_format == "channels_last":
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, 1e-6)
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Block(nn.Module):
    """A network of one ConvNeXt block behind a stem with a norm of channels."""

    def __init__(self, width=8, hidden=16):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, width, 2, 2), LayerNorm(width, "channels_first")
        self.each = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = LayerNorm(width, "channels_last")
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        x = self.first(self.stem(x))
        y = self.norm(self.each(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        return self.head((x + y).mean((2, 3)))


def test_both_norms_of_a_written_convnext_are_cut(seed):
    torch.manual_seed(seed)
    model, x = Block().double().eval(), images()
    graph = build_graph(model, x[:1])
    assert graph.widths == {"stem": 8, "up": 16}
    kept = {"stem": np.array([0, 2, 3, 7]), "up": np.arange(3, 12)}
    cut = apply_selection(model, Selection(kept, dict(graph.widths), "chosen"), x[:1])
    small = Block(4, 9).double().eval()  # from scratch, with those channels' weights
    for key, whole in model.named_parameters():
        for axis, size in enumerate(whole.shape):
            places = {8: kept["stem"], 16: kept["up"]}.get(size)
            if places is not None:
                whole = whole.index_select(axis, torch.from_numpy(places))
        small.get_parameter(key).data = whole.detach()
    assert cut.norm.normalized_shape == (4,)
    with torch.no_grad():
        torch.testing.assert_close(cut(x), small(x))
