"""Rebased batch-norm: evaluation computes what it did, and training starts from the same."""

import copy

import pytest
import torch
from oracles import own_images
from torch import nn

from mipp.refit import NormInputs


def rebase(model, batches):
    inputs = NormInputs(model)
    with torch.no_grad(), inputs.seen() as seen:
        for batch in batches:
            model(batch)
    inputs.add(seen)
    inputs.rebase()


def normed(seed, **options):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5, **options),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(180, 4),
        nn.BatchNorm1d(4, **options),
    ).double()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.1)  # statistics of no input
    return model.eval()


def shifted(model, seed):
    """Images, and what the network says of them in evaluation."""
    images = 3 * own_images(64, seed) + 1
    with torch.no_grad():
        return images, model(images)


@pytest.mark.parametrize("sizes", [[64], [40, 24], [1, 63]])
def test_outputs_of_evaluation_stay_and_training_has_the_same(sizes, seed):
    model = normed(seed)
    images, before = shifted(model, seed)
    rebase(model, list(images.split(sizes)))
    with torch.no_grad():
        after = model(images)
        training = copy.deepcopy(model).train()(images)  # normalises by the batch's own statistics
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(training, before, rtol=1e-9, atol=1e-9)


def test_without_it_training_starts_elsewhere(seed):
    model = normed(seed)
    images, before = shifted(model, seed)
    with torch.no_grad():
        assert (model.train()(images) - before).abs().max() > 0.1


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_norms_that_cannot_make_up_for_it_are_left_alone(options, seed):
    model = normed(seed, **options)
    images, _ = shifted(model, seed)
    state = copy.deepcopy(model.state_dict())
    rebase(model, [images])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_constant_channel_stays_finite(seed):
    model = normed(seed)
    with torch.no_grad():
        model[0].weight[2] = 0
    images, before = shifted(model, seed)
    rebase(model, [images])
    with torch.no_grad():
        torch.testing.assert_close(model(images), before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mean", [0.0, 3.0, 3e3])
def test_inputs_far_from_zero_keep_their_variance(mean, seed):
    model = nn.Sequential(nn.BatchNorm2d(4)).eval()
    images = torch.randn(64, 4, 9, 9, generator=torch.Generator().manual_seed(seed)) + mean
    rebase(model, images.split(24))
    wide = images.double()
    torch.testing.assert_close(
        model[0].running_var.double(), wide.var((0, 2, 3), correction=0), rtol=2e-3, atol=0
    )
    torch.testing.assert_close(
        model[0].running_mean.double(), wide.mean((0, 2, 3)), atol=1e-3, rtol=1e-6
    )


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_hooks_are_as_before(training, seed):
    model = normed(seed).train(training)
    rebase(model, [own_images(8, seed)])
    assert all(m.training == training and not m._forward_pre_hooks for m in model.modules())
