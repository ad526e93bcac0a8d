"""Refit of layers that do more than their kind: what is linear is fitted, the rest left alone."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import mipp
from mipp.activations import Sampling
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.refit import RefitSettings, refit
from mipp.selection.selection import Selection, keep_all

CHANNELS, COPIED = 6, 3  # the last channels that feed a layer are copies of the first


class ScaledWeight(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight * 0.1, self.bias, self.stride, self.padding)


class ScaledOutputs(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * torch.linspace(0.5, 2, self.out_channels).view(1, -1, 1, 1)


class Equalised(nn.Linear):
    """Equalised learning rate: He's constant in forward, kept from when the layer was made."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.scale, self.rate = math.sqrt(2 / inputs), 0.01

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Constant(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 3


class LowRank(nn.Linear):
    """A product of two small layers beside the weight, as adapters have."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Linear(inputs, 2, bias=False), nn.Linear(2, outputs, bias=False)

    def forward(self, x):
        return super().forward(x) + self.up(self.down(x))


class DropsOut(nn.Conv2d):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, self.training)


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


FITTED = {
    "scaled weight": lambda: ScaledWeight(CHANNELS, 4, 3, padding=1),
    "scaled outputs": lambda: ScaledOutputs(CHANNELS, 4, 3),
    "scaled outputs without a bias": lambda: ScaledOutputs(CHANNELS, 4, 3, bias=False),
    "equalised learning rate": lambda: Equalised(CHANNELS, 4),
    "constant": lambda: Constant(CHANNELS, 4, 1),
    "low-rank sum": lambda: LowRank(CHANNELS, 4),
    "dropout": lambda: DropsOut(CHANNELS, 4, 3),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(CHANNELS, 4, 3)),
    "weight norm of inputs": lambda: parametrizations.weight_norm(nn.Linear(CHANNELS, 4), dim=1),
    "weight norm of all": lambda: parametrizations.weight_norm(nn.Linear(CHANNELS, 4), dim=None),
    "older weight norm": lambda: old_weight_norm(nn.Conv2d(CHANNELS, 4, 3)),
}


class Rectifies(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


class Squashes(nn.Linear):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class Reflects(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.weight, self.bias)


class Wraps(nn.Conv2d):
    def forward(self, x):
        x = torch.cat([x[..., -1:], x, x[..., :1]], 3)
        x = torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2)
        return F.conv2d(x, self.weight, self.bias)


class Coordinates(nn.Conv2d):
    def forward(self, x):
        n, _, height, width = x.shape
        down = torch.linspace(-1, 1, height, dtype=x.dtype).view(1, 1, -1, 1)
        across = torch.linspace(-1, 1, width, dtype=x.dtype).view(1, 1, 1, -1)
        where = [part.expand(n, 1, height, width) for part in (across, down)]
        return super().forward(torch.cat([x, *where], 1))


class Partial(nn.Conv2d):
    """A partial convolution: of some positions alone, made up for by their number."""

    def __init__(self, *shape, **options):
        super().__init__(*shape, **options)
        mask = (torch.arange(49) % 3 > 0).double().view(1, 1, 7, 7)
        self.register_buffer("mask", mask)
        self.register_buffer(
            "ratio", 9 / F.conv2d(mask, torch.ones(1, 1, 3, 3).double(), padding=1)
        )

    def forward(self, x):
        return super().forward(x * self.mask) * self.ratio


class Masked(nn.Conv2d):
    """Weights under a mask of the kernel's places."""

    def __init__(self, *shape, **options):
        super().__init__(*shape, **options)
        self.register_buffer("mask", torch.ones(3, 3).triu())

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class Bends(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight.abs(), self.bias)


LEFT = {
    "activation": lambda: Rectifies(CHANNELS, 4, 3),
    "another activation": lambda: Squashes(CHANNELS, 4),
    "reflect padding": lambda: Reflects(CHANNELS, 4, 3),
    "circular padding": lambda: Wraps(CHANNELS, 4, 3),
    "coordinates": lambda: Coordinates(CHANNELS + 2, 4, 3, padding=1),
    "partial convolution": lambda: Partial(CHANNELS, 4, 3, padding=1),
    "masked weights": lambda: Masked(CHANNELS, 4, 3, padding=1),
    "weights without a sign": lambda: Bends(CHANNELS, 4),
}


def network(layer, seed):
    """A network in double precision whose channels 3 to 5 are copies of 0 to 2, and its inputs."""
    torch.manual_seed(seed)
    made = layer()
    over_maps = isinstance(made, nn.Conv2d)
    first = nn.Conv2d(3, CHANNELS, 3) if over_maps else nn.Linear(3, CHANNELS)
    model = nn.Sequential(first, nn.ReLU(), made).double().eval()
    model.requires_grad_(False)
    for module in model.modules():  # plain attributes follow
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                setattr(module, name, value.double())
    with torch.no_grad():
        for parameter in (first.weight, first.bias):
            parameter[COPIED:] = parameter[:COPIED]
    shape = (3, 9, 9) if over_maps else (3,)
    return model, torch.randn(40, *shape).double()


def cut_copies(model, images):
    """The network without its copies, with what a refit needs."""
    graph = build_graph(model, images[:1])
    kept = {**keep_all(graph.widths).kept, "0": np.arange(COPIED)}
    selection = Selection(kept, graph.widths, "test")
    return apply_selection(model, selection, images[:1]), graph, selection


def settings(images, ridge=1e-9):
    return RefitSettings(ridge=ridge, sampling=Sampling(rows=4000, images=len(images), seed=0))


def parts(images, count):
    return lambda: list(images.chunk(count))


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("name", [n for n in FITTED if "weight norm" not in n])
def test_copies_are_made_up_for_whatever_a_layer_does_to_its_weights(name, batches, seed):
    model, images = network(FITTED[name], seed)
    pruned, graph, selection = cut_copies(model, images)
    expected = model(images)
    assert (pruned(images) - expected).abs().max() > 1e-3
    fits = refit(pruned, model, graph, selection, parts(images, batches), settings(images))
    [fit] = [fit for fit in fits if fit.layer == "2"]
    torch.testing.assert_close(pruned(images), expected, rtol=1e-5, atol=1e-5)
    assert not fit.left
    assert fit.error_after < 1e-9 < fit.error_before


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("name", LEFT)
def test_layer_that_is_no_linear_map_is_left_as_it_is(name, batches, seed):
    model, images = network(LEFT[name], seed)
    pruned, graph, selection = cut_copies(model, images)
    before, made = copy.deepcopy(pruned.state_dict()), pruned(images)
    [fit] = refit(pruned, model, graph, selection, parts(images, batches), settings(images))
    assert all(torch.equal(before[key], now) for key, now in pruned.state_dict().items())
    assert "no linear map" in fit.left
    wanted = model(images).movedim(1, -1).flatten(0, -2)
    apart = (made.movedim(1, -1).flatten(0, -2) - wanted).square().sum()
    share = float(apart / (wanted - wanted.mean(0)).square().sum())
    if batches == 1:  # of several, one was enough to see it
        assert fit.error_before == fit.error_after == pytest.approx(share, rel=1e-6)


def test_report_says_in_words_what_was_not_fitted():
    model, images = network(LEFT["activation"], 0)
    report = mipp.prune(model, [images], "ratio:0.5").report
    assert list(report.unfitted) == ["2"]
    assert "  2: its weights were left as they are: what it computes is no linear map" in str(
        report
    )
    plain, images = network(lambda: nn.Conv2d(CHANNELS, 4, 3), 0)
    assert not mipp.prune(plain, [images], "ratio:0.5").report.unfitted


def test_layer_behind_one_that_was_left_is_fitted(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), Rectifies(8, 8, 3), nn.Conv2d(8, 4, 1), nn.ReLU()
    ).double()
    images = torch.randn(40, 3, 9, 9).double()
    graph = build_graph(model, images[:1])
    kept = {"0": np.arange(4), "2": np.arange(8)}
    selection = Selection(kept, graph.widths, "test")
    pruned = apply_selection(model, selection, images[:1])
    left, fitted = refit(pruned, model, graph, selection, lambda: [images], settings(images))
    assert left.left
    assert not fitted.left
    assert fitted.error_after < fitted.error_before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rounding_of_a_plain_layer_is_no_other_map(dtype, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 6, 3))
    with torch.no_grad():
        model[2].weight.sub_(model[2].weight.mean((1, 2, 3), keepdim=True))  # sums that cancel
        model[0].bias.add_(3)
    images = torch.randn(16, 3, 12, 12)
    model, images = model.to(dtype), images.to(dtype)
    found = mipp.prune(model, [images], "ratio:0.25")
    assert not found.report.unfitted
    assert {p.dtype for p in found.model.parameters()} == {dtype}
