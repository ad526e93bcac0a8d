"""The cut: the pruned network is the dense one with dropped channels zero where they are read."""

import numpy as np
import pytest
import torch
from oracles import (
    BUILT,
    OWN_NETWORKS,
    assert_zeroing,
    build_own,
    build_small,
    enliven_norms,
    graph_of,
    images_for,
    own_images,
    random_selection,
)
from torch import nn

from mipp.cut import apply_selection
from mipp.errors import CutError
from mipp.graph import build_graph
from mipp.models import ModelSpec, build_model
from mipp.selection.selection import Selection, keep_all

LENET = {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}


def select(**kept):
    """A selection for LeNet-5 that keeps everything but what is named."""
    everything = {group: np.arange(width) for group, width in LENET.items()}
    chosen = {group: np.asarray(channels, int) for group, channels in kept.items()}
    return Selection({**everything, **chosen}, LENET, "test")


def cut(model, **kept):
    return apply_selection(model, select(**kept), images_for("lenet5", 1))


@pytest.mark.parametrize("name", BUILT)
def test_pruned_network_is_the_dense_one_with_channels_zeroed(name, seed):
    model = build_small(name, seed=seed)
    graph, images = graph_of(name), images_for(name, 2, seed)
    assert_zeroing(model, graph, random_selection(graph, seed), images)


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_own_pruned_network_is_the_dense_one_with_channels_zeroed(name, seed):
    model, images = build_own(name, seed), own_images(5, seed)
    graph = build_graph(model, images[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), images)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "densenet121", "googlenet", "regnet_y_400mf", "efficientnet_b0"]
)
def test_torchvision_network_is_the_dense_one_with_channels_zeroed(name, seed):
    model = build_model(ModelSpec(f"torchvision/{name}", 10, 3, 64), seed=seed).double().eval()
    enliven_norms(model, seed)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    graph = build_graph(model, images[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), images)


def test_keeping_everything_changes_nothing():
    model, images = build_small("resnet20"), images_for("resnet20", 2)
    same = apply_selection(model, keep_all(graph_of("resnet20").widths), images[:1])
    assert torch.equal(same(images), model(images))


def test_weights_of_what_stays_are_as_they_were():
    model = build_small("lenet5")
    pruned = cut(model, conv1=[1, 4], conv2=[0, 3, 7])
    torch.testing.assert_close(
        pruned.conv2.weight, model.conv2.weight[[0, 3, 7]][:, [1, 4]], rtol=0, atol=0
    )
    torch.testing.assert_close(pruned.conv2.bias, model.conv2.bias[[0, 3, 7]], rtol=0, atol=0)


def test_network_has_the_widths_that_were_kept():
    pruned = cut(build_small("lenet5"), conv2=[5], fc1=[0, 119])
    assert (pruned.conv2.out_channels, pruned.fc1.in_features) == (1, 25)
    assert (pruned.fc1.out_features, pruned.fc2.in_features) == (2, 2)


def test_callers_model_is_untouched():
    model = build_small("resnet20").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apply_selection(model, random_selection(graph_of("resnet20"), 0), images_for("resnet20", 1))
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_mode_of_every_module_is_kept():
    model = build_small("resnet20").train()
    model.bn1.eval()  # a frozen batch-norm in a network in training
    selection = random_selection(graph_of("resnet20"), 0)
    pruned = apply_selection(model, selection, images_for("resnet20", 1))
    for network in (model, pruned):
        assert [name for name, m in network.named_modules() if not m.training] == ["bn1"]


def test_frozen_parameters_stay_frozen():
    model = build_small("lenet5")
    model.conv1.requires_grad_(False)
    pruned = cut(model, conv1=[0, 1, 2], fc1=range(60))
    frozen = [name for name, p in pruned.named_parameters() if not p.requires_grad]
    assert frozen == ["conv1.weight", "conv1.bias"]


def test_pruned_network_can_be_trained():
    pruned = cut(build_small("lenet5"), conv1=[0, 1, 2], fc1=range(60))
    assert all(parameter.grad is None for parameter in pruned.parameters())
    pruned(images_for("lenet5", 3)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in pruned.parameters())


def test_cut_refuses_an_empty_group():
    with pytest.raises(CutError, match=r"empties group 'fc1' (.|\n)*collapsed"):
        cut(build_small("lenet5"), fc1=[])


def test_cut_refuses_other_widths():
    selection = Selection({"conv1": np.arange(6)}, {"conv1": 20}, "test")
    with pytest.raises(CutError, match="Group 'conv1': expected 20 channels, got 6"):
        apply_selection(build_small("lenet5"), selection, images_for("lenet5", 1))


def test_cut_refuses_another_networks_groups():
    selection = keep_all(graph_of("resnet20").widths)
    with pytest.raises(CutError, match="no such module"):
        apply_selection(build_small("lenet5"), selection, images_for("lenet5", 1))


@pytest.mark.parametrize("channels", [[3, 1], [2, 2], [0, 6], [-1, 3]])
def test_cut_refuses_malformed_channels(channels):
    with pytest.raises(CutError, match=r"malformed in group 'conv1'(.|\n)*sorted distinct"):
        cut(build_small("lenet5"), conv1=channels)


def test_group_without_a_word_stays_whole():
    selection = Selection({"conv1": np.array([2])}, {"conv1": 6}, "test")
    pruned = apply_selection(build_small("lenet5"), selection, images_for("lenet5", 1))
    assert (pruned.conv1.out_channels, pruned.conv2.out_channels) == (1, 16)


def test_group_without_a_width_is_refused():
    model = build_model(ModelSpec("lenet5", 10, 1, 28), seed=0)
    selection = Selection({"conv1": np.arange(3), "conv2": np.arange(2)}, {"conv1": 6}, "test")
    with pytest.raises(CutError, match=r"(?s)groups \['conv2'\].*Expected both"):
        apply_selection(model, selection, torch.zeros(1, 1, 28, 28))


def test_slopes_are_cut_with_the_channels_that_they_bend(seed):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    model, images = nn.Sequential(*layers).double().eval(), own_images(4, seed)
    nn.init.uniform_(model[1].weight)
    graph = build_graph(model, images[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), images)
    kept = {"0": np.array([1, 6]), "2": np.arange(4)}
    pruned = apply_selection(model, Selection(kept, dict(graph.widths), "test"), images[:1])
    assert pruned[1].num_parameters == 2
    assert torch.equal(pruned[1].weight, model[1].weight[[1, 6]])
