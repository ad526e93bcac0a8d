"""Weights that are computed from others: cut copies compute them where they can."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import mipp
from mipp.layers.weights import make_plain, plain


def network(norm, seed=0):
    torch.manual_seed(seed)
    inner = norm(nn.Conv2d(8, 8, 3))
    return nn.Sequential(nn.Conv2d(3, 8, 3), inner, nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


def pruned(model, method="mipp"):
    labels = torch.arange(16) % 4
    head = nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    batch = (torch.randn(16, 3, 8, 8), labels)
    return mipp.prune(head, [batch], "ratio:0.5", images=16, method=method).model[0]


def test_weight_norm_goes_on_and_another_parametrization_becomes_plain():
    assert parametrize.is_parametrized(pruned(network(weight_norm))[1], "weight")
    assert isinstance(pruned(network(spectral_norm))[1].weight, nn.Parameter)
    assert type(pruned(network(spectral_norm))[1]) is nn.Conv2d


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm, nn.utils.spectral_norm])
@pytest.mark.parametrize("method", ["l1", "taylor"])
def test_network_of_the_caller_and_its_outputs_stay(norm, method):
    model, x = network(norm), torch.randn(2, 3, 8, 8)
    before, state = model(x).detach(), copy.deepcopy(model.state_dict())
    pruned(model, method)
    assert torch.equal(model(x), before)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    model.train()(x).sum().backward()
    assert model.eval()(x).isfinite().all()


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm, nn.utils.spectral_norm])
def test_plain_copy_computes_the_same_from_parameters_alone(norm, seed):
    model, x = network(norm, seed), torch.randn(2, 3, 8, 8)
    found = plain(model)
    torch.testing.assert_close(found(x), model(x))
    own = {name for name, _ in found.named_parameters() if name.startswith("1.")}
    assert own == {"1.weight", "1.bias"}


def test_model_without_computed_weights_is_not_copied():
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    assert plain(model) is model


def test_class_of_several_computed_weights_loses_the_plain_one_alone():
    layer = weight_norm(spectral_norm(nn.Linear(4, 4)), "bias", dim=0)
    both = copy.deepcopy(layer)
    make_plain(both, "weight")
    assert isinstance(both.weight, nn.Parameter)
    assert parametrize.is_parametrized(both, "bias")
    assert parametrize.is_parametrized(layer, "weight")
    assert layer.weight.shape == (4, 4)


@pytest.mark.parametrize("norm", [spectral_norm, nn.utils.spectral_norm])
def test_report_names_weights_that_became_plain(norm):
    model = nn.Sequential(network(norm), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    report = mipp.prune(model, [torch.randn(16, 3, 8, 8)], "ratio:0.5").report
    assert report.made_plain == ("0.1.weight",)
    assert "0.1.weight: plain now" in str(report)


def test_report_names_no_weights_that_are_computed_on():
    model = nn.Sequential(network(weight_norm), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    report = mipp.prune(model, [torch.randn(16, 3, 8, 8)], "ratio:0.5").report
    assert not report.made_plain
    assert "plain now" not in str(report)
