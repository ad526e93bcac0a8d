"""Pairs from the image to the first layers: what they index, and the rows captured of them."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import Net, build_own, build_small, graph_of, images_for, own_images
from torch import nn

from mipp.activations import Sampling, capture_rows
from mipp.graph import build_graph
from mipp.graph.pixels import TARGETS, grid, pixel_pairs
from mipp.layers import layer_of
from mipp.models import ModelSpec, build_model

# the layer that reads the image, its channels, and the step at which no more than TARGETS of its
# outputs are left: 6 * 28 * 28 = 4704 are too many, and so are 16 * 32 * 32 = 16384
NETWORKS = {
    "lenet5": ("conv1", 6, 2, 15),
    "resnet20": ("conv1", 16, 3, 12),
    "lenet-300-100": ("fc1", 300, 1, 1),
}


@functools.cache
def pair_of(name):
    """The only pair of a network's input."""
    (pair,) = pixel_pairs(build_small(name), graph_of(name), images_for(name, 1))
    return pair


def captured(model, graph, images, pairs):
    """Rows of the pairs, over batches of different sizes."""
    batches = [images[:3], images[3:]]
    parts = list(capture_rows(model, pairs, batches, Sampling(64, len(images), 0)))
    return {
        pair.name: [torch.cat(side) for side in zip(*(p[pair.name] for p in parts), strict=True)]
        for pair in pairs
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_pair_is_named_for_the_layer_that_reads_the_image(name):
    layer, pair = NETWORKS[name][0], pair_of(name)
    assert (pair.name, pair.group, pair.consumer) == (f"pixels--{layer}", "pixels", layer)
    assert pair.kind == "pixels"


@pytest.mark.parametrize("name", NETWORKS)
def test_features_index_each_pixel_in_all_its_colours(name):
    _, colours, height, width = images_for(name, 1).shape
    places = np.arange(colours * height * width).reshape(colours, height, width)
    expected = [places[:, i, j] for i in range(height) for j in range(width)]
    np.testing.assert_array_equal(pair_of(name).features, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_targets_are_the_outputs_of_the_grid(name):
    _, channels, _, side = NETWORKS[name]
    assert pair_of(name).targets == channels * side**2


@pytest.mark.parametrize("name", NETWORKS)
def test_target_belongs_to_its_channel_of_the_layers_group(name):
    layer, channels, _, side = NETWORKS[name]
    pair, groups = pair_of(name), graph_of(name).groups
    [(owner, channel)] = pair.owners.items()
    assert layer in [member.module for member in groups[owner].producers]
    assert groups[owner].width == channels
    np.testing.assert_array_equal(
        channel.reshape(channels, side**2), np.arange(channels)[:, None].repeat(side**2, 1)
    )


@pytest.mark.parametrize("name", ["lenet5", "lenet5-caffe", "lenet-300-100"])
def test_lighting_any_pixel_changes_a_target(name):
    """Of 784 images with one pixel lit each, none gives the targets of the dark image."""
    model, pair = build_small(name), pair_of(name)
    images = torch.eye(784, dtype=torch.float64).view(784, 1, 28, 28)
    _, y = captured(model, graph_of(name), images, [pair])[pair.name]
    _, dark = captured(model, graph_of(name), 0 * images[:5], [pair])[pair.name]
    unread = (y == dark[:1]).all(1).nonzero().flatten().tolist()
    assert [divmod(pixel, 28) for pixel in unread] == []


def read(conv, size, positions):
    """Pixels along one side that lie under the kernel at one of the positions."""
    offsets = torch.arange(conv.kernel_size[0]) * conv.dilation[0]
    pixels = positions[:, None] * conv.stride[0] - conv.padding[0] + offsets
    return {int(p) for p in pixels.flatten() if 0 <= p < size}


@given(
    size=st.integers(8, 260),
    kernel=st.integers(1, 11),
    stride=st.integers(1, 4),
    padding=st.integers(0, 5),
    channels=st.sampled_from([1, 6, 16, 64, 256]),
)
def test_thinned_grid_reads_every_pixel_that_the_whole_map_reads(
    size, kernel, stride, padding, channels
):
    assume(padding <= kernel // 2 and kernel <= size + 2 * padding)
    conv = nn.Conv2d(3, channels, kernel, stride, padding, device="meta")
    output = conv(torch.empty(1, 3, size, size, device="meta"))
    every, (rows, columns) = torch.arange(output.shape[2]), grid(layer_of(conv).window, output)
    assert rows == columns
    assert read(conv, size, torch.tensor(rows)) == read(conv, size, every)


@pytest.mark.parametrize(("channels", "step"), [(1, 1), (5, 1), (6, 2), (256, 5)])
def test_grid_is_the_finest_with_few_enough_targets(channels, step):
    conv = nn.Conv2d(1, channels, 5, padding=2)  # steps up to 5 read every pixel of 28
    output = torch.empty(1, channels, 28, 28)
    rows, _ = grid(layer_of(conv).window, output)
    assert rows == sorted({*range(0, 28, step), 27})
    assert step == 5 or channels * len(rows) ** 2 <= TARGETS


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "lenet-300-100"])
def test_captured_rows_are_the_images_and_the_layers_outputs_on_the_grid(name, seed):
    layer, _, step, _ = NETWORKS[name]
    model, images, pair = build_small(name, seed=seed), images_for(name, 5, seed), pair_of(name)
    x, y = captured(model, graph_of(name), images, [pair])[pair.name]
    weight, bias = (getattr(model.get_submodule(layer), part) for part in ("weight", "bias"))
    if weight.ndim == 4:
        whole = F.conv2d(images, weight, bias, padding=weight.shape[2] // 2)
        side = sorted({*range(0, whole.shape[2], step), whole.shape[2] - 1})
        expected = whole[:, :, side][:, :, :, side].flatten(1)
    else:
        expected = F.linear(images.flatten(1), weight, bias)
    assert torch.equal(x, images.flatten(2).transpose(1, 2))  # (n, pixels, colours)
    torch.testing.assert_close(y, expected.detach())


def test_pixel_rows_come_beside_those_of_the_other_pairs():
    model, graph, images = build_small("lenet5"), graph_of("lenet5"), images_for("lenet5", 5)
    rows = captured(model, graph, images, [*graph.pairs, pair_of("lenet5")])
    alone = captured(model, graph, images, graph.pairs)
    assert set(rows) == {*alone, "pixels--conv1"}
    for name in alone:
        assert all(map(torch.equal, rows[name], alone[name]))


def test_rectangular_image_of_three_colours_is_indexed_row_by_row(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 7, 2))
    images = torch.randn(5, 3, 6, 9)
    graph = build_graph(model, images[:1])
    (pair,) = pixel_pairs(model, graph, images[:1])
    x, y = captured(model, graph, images, [pair])[pair.name]
    assert torch.equal(x.view(5, 6, 9, 3), images.permute(0, 2, 3, 1))
    expected = F.conv2d(images, model[0].weight, model[0].bias).flatten(1)
    torch.testing.assert_close(y, expected.detach())


def reading_network(before):
    """A small network whose first convolution reads what `before` makes of the image."""

    def forward(net, x):
        return net.head(F.relu(net.conv(before(x))).mean((2, 3)))

    torch.manual_seed(0)
    return Net(forward, conv=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("before", "pairs"),
    [
        (lambda x: x, ["pixels--conv"]),
        (lambda x: F.avg_pool2d(x, 2), []),
        (lambda x: (x - 0.5) / 0.25, []),
        (lambda x: x[:, :, ::2, ::2], []),
    ],
    ids=["image", "average pooling", "normalisation", "every second pixel"],
)
def test_only_a_layer_that_reads_the_image_itself_makes_a_pair(before, pairs):
    model, image = reading_network(before), own_images(1).float()
    graph = build_graph(model, image)
    assert [pair.name for pair in pixel_pairs(model, graph, image)] == pairs


def test_every_layer_that_reads_the_image_makes_a_pair():
    model, image = build_own("transposed_branch"), own_images(1)
    model.plain = nn.Conv2d(4, 8, 3, padding=1).double()
    names = [pair.name for pair in pixel_pairs(model, build_graph(model, image), image)]
    assert names == ["pixels--stem"]

    def forward(net, x):
        return net.head(F.relu(net.one(x) + net.other(x)).mean((2, 3)))

    both = Net(
        forward, one=nn.Conv2d(3, 4, 3), other=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 2)
    ).double()
    pairs = pixel_pairs(both, build_graph(both, image), image)
    assert [pair.name for pair in pairs] == ["pixels--one", "pixels--other"]
    assert pairs[0].owners.keys() == pairs[1].owners.keys() != set()


def test_layer_over_positions_makes_no_pair_or_one_that_fits():
    """Its input is the image turned to tokens: each of its outputs reads one pixel."""
    model, images = build_own("tokens"), own_images(5)
    graph = build_graph(model, images[:1])
    for pair in pixel_pairs(model, graph, images[:1]):
        assert all(len(channel) == pair.targets for channel in pair.owners.values())
        x, _ = captured(model, graph, images, [pair])[pair.name]
        assert torch.equal(x, images.flatten(2).transpose(1, 2))


def test_network_is_left_as_found():
    model = build_model(ModelSpec("lenet5", 10, 1, 28), seed=0).train()
    graph = build_graph(model, torch.zeros(1, 1, 28, 28))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pixel_pairs(model, graph, torch.zeros(1, 1, 28, 28))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
