"""Torch-Pruning as a rival: what it is given, and that it meets the same budgets."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.rivals.torch_pruning import (
    CRITERIA,
    Goal,
    GoalMissed,
    Rival,
    accumulate_gradients,
    accumulate_squares,
    prune_to_goal,
)
from mipp.models import ModelSpec, build_model

LAYERS = ("conv1", "conv2", "fc1", "fc2")  # of LeNet-5: 6 + 16 + 120 + 84 = 226 units
WITHOUT_NORMS = [name for name, criterion in CRITERIA.items() if not criterion.needs_norms]


def widths(model):
    return [model.get_submodule(name).weight.shape[0] for name in LAYERS]


def units(model):
    return sum(widths(model))


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 1, 28, 28, generator=generator), torch.arange(8)


def lenet(criterion, batch):
    """LeNet-5 at random weights, with the gradients that the criterion reads."""
    model = build_model(ModelSpec("lenet5", 10, 1, 28), seed=0).eval()
    gradients = CRITERIA[criterion].gradients
    if gradients != "none":
        accumulate = accumulate_gradients if gradients == "sum" else accumulate_squares
        accumulate(model, [batch])
    return model


@pytest.mark.parametrize(
    ("criterion", "scope"), list(itertools.product(WITHOUT_NORMS, ("global", "layer")))
)
def test_every_criterion_meets_a_number_of_units(criterion, scope, images):
    model = lenet(criterion, images)
    goal = Goal(units, target=45, slack=1)

    cut = prune_to_goal(model, images[0][:1], Rival(criterion, scope, LAYERS), goal)

    assert units(cut.model) == 45
    assert cut.model(images[0]).shape == (8, 10)
    assert cut.seconds > 0
    assert widths(model) == [6, 16, 120, 84]


def test_bn_scale_prunes_the_channels_of_least_slope(images):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()
    model[1].weight.data = torch.tensor([0.5, -3.0, 0.1, 2.0])
    goal = Goal(lambda m: m[0].out_channels, target=2, slack=0.5)

    cut = prune_to_goal(model, images[0][:1], Rival("BN scale", "global", ["0"]), goal)

    assert cut.model[1].weight.tolist() == [-3.0, 2.0]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_every_layer_keeps_a_unit(scope, images):
    model = lenet("L1", images)
    cut = prune_to_goal(model, images[0][:1], Rival("L1", scope, LAYERS), Goal(units, 11, 1))
    assert min(widths(cut.model)) == 1


def test_lamp_per_layer_keeps_what_l2_keeps(images):
    model, goal = lenet("L2", images), Goal(units, target=113, slack=1)
    by_l2, by_lamp = (
        prune_to_goal(model, images[0][:1], Rival(name, "layer", LAYERS), goal).model.state_dict()
        for name in ("L2", "LAMP")
    )
    assert all(torch.equal(by_l2[name], by_lamp[name]) for name in by_l2)


def test_layers_outside_the_patterns_stay_whole(images):
    model = lenet("L1", images)
    cut = prune_to_goal(model, images[0][:1], Rival("L1", "global", ["fc?"]), Goal(units, 100, 1))
    assert widths(cut.model)[:2] == [6, 16]


def test_goal_that_no_ratio_meets_is_refused(images):
    model = lenet("L1", images)
    with pytest.raises(GoalMissed, match=r"L1, global: expected 1 to stay of 226, got 4 at"):
        prune_to_goal(model, images[0][:1], Rival("L1", "global", LAYERS), Goal(units, 1, 1))


def test_squares_are_means_over_single_images():
    # a linear classifier: the gradient of one image is (softmax - one-hot) times its input
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(5, 4, generator=generator), torch.tensor([0, 1, 2, 0, 1])
    model = nn.Linear(4, 3)
    weight, bias = (p.detach().double().numpy() for p in (model.weight, model.bias))
    powers = np.exp(x.double().numpy() @ weight.T + bias)
    errors = powers / powers.sum(1, keepdims=True) - np.eye(3)[labels.numpy()]
    expected = np.mean((errors[:, :, None] * x.double().numpy()[:, None, :]) ** 2, axis=0)

    accumulate_squares(model, zip(x.split(2), labels.split(2), strict=True))

    np.testing.assert_allclose(model.weight.grad.numpy(), expected, rtol=1e-4)
