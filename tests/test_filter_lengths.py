"""Filters before a batch-norm after a refit: as long as before, and the same outputs."""

import copy
from dataclasses import replace

import pytest
import torch
from oracles import build_small, graph_of, images_for, own_images, random_selection
from torch import nn

from mipp.activations import Sampling
from mipp.cut import apply_selection
from mipp.refit import RefitSettings, refit
from mipp.refit.filter_lengths import filter_lengths, restore_lengths

NAME = "resnet20"
NORM_AFTER = {"conv": "norm"}
SETTINGS = RefitSettings(ridge=1e-2, sampling=Sampling(rows=960, images=24, seed=0))


class Net(nn.Module):
    """Convolution, batch-norm; what else reads or writes them depends on the form."""

    def __init__(self, form="chain"):
        super().__init__()
        self.form = form
        self.conv, self.norm = nn.Conv2d(3, 5, 3, bias=form == "bias"), nn.BatchNorm2d(5)
        self.second = nn.Conv2d(5, 5, 1, bias=False)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        found = self.conv(x)
        y = self.norm(found).relu()
        if self.form == "read beside the norm":
            y = y + found
        if self.form == "norm of two layers":
            y = self.norm(self.second(y))
        return self.head(y.mean((2, 3)))


def net(seed, form="chain"):
    """A network of that form with statistics of no input, its images and what it says of them."""
    torch.manual_seed(seed)
    model = Net(form).double().eval()
    with torch.no_grad():
        for tensor in (model.norm.weight, model.norm.running_mean, model.norm.running_var):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        images = own_images(16, seed)
        return model, images, model(images)


def restore(model, images, share):
    """Filters of `conv` at that share of their length, which is given back."""
    found = filter_lengths(model, ["conv", "head"], NORM_AFTER)
    wanted = {name: share * lengths for name, lengths in found.items()}
    restore_lengths(model, wanted, NORM_AFTER, images[:1])
    return wanted["conv"]


@pytest.mark.parametrize("form", ["chain", "bias"])
@pytest.mark.parametrize("share", [0.25, 3.0])
def test_filters_change_their_length_and_the_network_says_the_same(form, share, seed):
    model, images, before = net(seed, form)
    direction = nn.functional.normalize(model.conv.weight.flatten(1))
    wanted = restore(model, images, share)
    found = model.conv.weight.flatten(1)
    torch.testing.assert_close(found.norm(dim=1), wanted)
    torch.testing.assert_close(nn.functional.normalize(found), direction)
    torch.testing.assert_close(model(images), before, rtol=1e-9, atol=1e-9)


def test_variance_too_small_to_shrink_stays_above_zero(seed):
    model, images, _ = net(seed)
    with torch.no_grad():
        model.norm.running_var[1:3] = torch.tensor([0.0, 1e-6])
        before = model(images)
        restore(model, images, 0.01)
        assert model.norm.running_var.min() >= 0
        torch.testing.assert_close(model(images), before, rtol=1e-9, atol=1e-9)


def test_filter_of_zeros_stays(seed):
    model, images, _ = net(seed)
    with torch.no_grad():
        model.conv.weight[2] = 0
        before = model(images)
        restore(model, images, 2.0)
        assert not model.conv.weight[2].any()
        torch.testing.assert_close(model(images), before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["read beside the norm", "norm of two layers"])
def test_networks_that_would_say_something_else_are_left_alone(form, seed):
    model, images, _ = net(seed, form)
    state = copy.deepcopy(model.state_dict())
    restore(model, images, 0.5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_norm_without_running_statistics_is_left_alone(seed):
    model, _, _ = net(seed)
    model.norm = nn.BatchNorm2d(5, track_running_stats=False)
    assert filter_lengths(model, ["conv"], NORM_AFTER) == {}


def test_refit_sets_lengths_and_computes_what_it_would_without(seed):
    dense, graph, images = build_small(NAME), graph_of(NAME), images_for(NAME, 24)
    selection = random_selection(graph, seed)
    raw = apply_selection(dense, selection, images[:1])
    kept, grown = copy.deepcopy(raw), copy.deepcopy(raw)
    fits = refit(kept, dense, graph, selection, lambda: [images], SETTINGS)
    fitted = replace(SETTINGS, lengths="fitted")
    refit(grown, dense, graph, selection, lambda: [images], fitted)
    names = [fit.layer for fit in fits]
    lengths = [filter_lengths(model, names, graph.norm_after) for model in (raw, kept, grown)]
    assert lengths[0]
    for name, had in lengths[0].items():
        torch.testing.assert_close(lengths[1][name], had, rtol=1e-5, atol=0, msg=name)
    assert any(not torch.allclose(lengths[2][n], had, rtol=0.1) for n, had in lengths[0].items())
    with torch.no_grad():
        torch.testing.assert_close(kept(images), grown(images), rtol=1e-4, atol=1e-4)
