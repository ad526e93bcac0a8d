"""Captured rows against unfold, and against the layers that turn x into y."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import (
    build_own,
    build_small,
    graph_of,
    images_for,
    own_images,
    unfolded_rows,
)
from torch import nn

from mipp.activations import Sampling, capture_rows
from mipp.activations.capture import Tap
from mipp.errors import ActivationError
from mipp.graph import build_graph
from mipp.layers import layer_of
from mipp.layers.padded_shortcut import PaddedShortcut

CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "uneven": {"kernel_size": (3, 5), "stride": (2, 1), "padding": (0, 2)},
    "dilated": {"kernel_size": 3, "dilation": (2, 1), "padding": (2, 1)},
    "same": {"kernel_size": (3, 5), "padding": "same"},
    "same dilated": {"kernel_size": 3, "dilation": 2, "padding": "same"},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "same even": {"kernel_size": (2, 4), "padding": "same"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
}
# torch's own note on even kernels with padding="same"; it is what the test is about
EVEN = "ignore:Using padding='same' with even kernel"


def capture(model, graph, images, rows, *, seed=0, batch=None):
    """All rows of every pair, x and y joined over batches."""
    sampling = Sampling(rows, len(images), seed)
    parts = list(capture_rows(model, graph.pairs, images.split(batch or len(images)), sampling))
    return {
        pair.name: [torch.cat(side) for side in zip(*(p[pair.name] for p in parts), strict=True)]
        for pair in graph.pairs
    }


def weights_of(pair, module):
    """The consumer's weights for the pair's features, (targets, channels, block)."""
    weight = module.placement.double() if pair.kind == "shortcut" else module.weight
    by_input = weight.reshape(*weight.shape[:2], -1)[:, torch.from_numpy(pair.features)]
    return by_input.flatten(2)


def assert_rows_explain_targets(model, graph, rows):
    """x rows times the weights, summed over a consumer's pairs, plus the bias are y."""
    for consumer in {pair.consumer for pair in graph.pairs}:
        module, found = model.get_submodule(consumer), 0
        for pair in (p for p in graph.pairs if p.consumer == consumer):
            x, y = rows[pair.name]
            found = found + torch.einsum("ncb,tcb->nt", x, weights_of(pair, module))
        bias = getattr(module, "bias", None)
        expected = y if bias is None else y - bias
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(y.abs().max() + 1))


@pytest.mark.filterwarnings(EVEN)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_rows_are_the_unfolded_input(name, seed):
    torch.manual_seed(seed)
    conv = nn.Conv2d(3, 4, **CONVOLUTIONS[name]).double()
    x = torch.randn(5, 3, 9, 11, dtype=torch.float64)
    y, tap = conv(x), Tap(layer_of(conv), Sampling(rows=35, images=5, seed=seed), stream=2)
    at = tap.draw(y)
    assert at.shape == (5, 7)
    flat = (at + y[0, 0].numel() * torch.arange(5)[:, None]).flatten()
    torch.testing.assert_close(tap.inputs(x, at, y), unfolded_rows(conv, x)[flat])
    torch.testing.assert_close(tap.outputs(y, at), y.permute(0, 2, 3, 1).reshape(-1, 4)[flat])


@pytest.mark.parametrize("shape", [(5, 6), (5, 7, 6)], ids=["vectors", "tokens"])
def test_linear_rows_are_the_tokens(shape):
    linear = nn.Linear(6, 4).double()
    x = torch.randn(shape, dtype=torch.float64)
    y, tap = linear(x), Tap(layer_of(linear), Sampling(rows=15, images=5, seed=0), stream=0)
    at = tap.draw(y)
    assert at.shape == (5, 3 if len(shape) == 3 else 1)
    for rows, source in ((tap.inputs(x, at, y)[:, :, 0], x), (tap.outputs(y, at), y)):
        source = source.reshape(5, -1, source.shape[-1])
        expected = [source[image, token] for image in range(5) for token in at[image]]
        torch.testing.assert_close(rows, torch.stack(expected), rtol=0, atol=0)


def test_shortcut_rows_are_every_second_pixel():
    shortcut = PaddedShortcut(3, 5)
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    y, tap = shortcut(x), Tap(layer_of(shortcut), Sampling(rows=100, images=2, seed=0), stream=0)
    rows = tap.inputs(x, tap.draw(y), y)
    expected = x[:, :, ::2, ::2].permute(0, 2, 3, 1).reshape(-1, 3, 1)
    torch.testing.assert_close(rows, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["lenet5", "lenet-300-100", "resnet20", "vgg11"])
def test_rows_times_weights_are_the_preactivations(name, seed):
    model, graph = build_small(name, seed=seed), graph_of(name)
    assert_rows_explain_targets(model, graph, capture(model, graph, images_for(name, 4), 40))


@pytest.mark.parametrize("name", ["dense_blocks", "repeated_slice", "depthwise", "tokens", "gated"])
def test_rows_of_own_networks_times_weights_are_the_preactivations(name, seed):
    model = build_own(name, seed)
    graph = build_graph(model, own_images(1))
    assert_rows_explain_targets(model, graph, capture(model, graph, own_images(4), 40))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batch_size_does_not_change_rows(batch):
    model, graph, images = build_small("resnet20"), graph_of("resnet20"), images_for("resnet20", 8)
    whole = capture(model, graph, images, 64)
    for name, parts in capture(model, graph, images, 64, batch=batch).items():
        for part, expected in zip(parts, whole[name], strict=True):
            torch.testing.assert_close(part, expected, rtol=1e-9, atol=1e-9)


def test_rows_have_the_shape_of_their_pair():
    model, graph = build_small("lenet5"), graph_of("lenet5")
    shapes = {
        name: [tuple(part.shape) for part in parts]
        for name, parts in capture(model, graph, images_for("lenet5", 5), 50).items()
    }
    assert shapes == {
        "conv1--conv2": [(50, 6, 25), (50, 16)],
        "conv2--fc1": [(5, 16, 25), (5, 120)],
        "fc1--fc2": [(5, 120, 1), (5, 84)],
        "fc2--fc3": [(5, 84, 1), (5, 10)],
    }


def test_seed_decides_the_positions():
    model, graph, images = build_small("lenet5"), graph_of("lenet5"), images_for("lenet5", 4)
    first, same, other = (
        capture(model, graph, images, 40, seed=seed)["conv1--conv2"][0] for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@settings(max_examples=100, deadline=None)
@given(
    side=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    images=st.integers(1, 6),
    rows=st.integers(1, 200),
    seed=st.integers(0, 2**31),
)
def test_positions_are_spread_over_the_map(side, images, rows, seed):
    output = torch.zeros(images, 2, *side)
    at = (
        Tap(layer_of(nn.Conv2d(2, 2, 1)), Sampling(rows, images, seed), stream=0)
        .draw(output)
        .numpy()
    )
    places = side[0] * side[1]
    count = min(places, -(-rows // images))
    assert at.shape == (images, count)
    strata = np.arange(count) * places / count
    assert np.all(at >= np.floor(strata))
    assert np.all(at < strata + places / count)
    assert at.max() < places


def test_network_runs_in_eval_mode_and_learns_nothing():
    model, graph = build_small("resnet20").train(), graph_of("resnet20")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = capture(model, graph, images_for("resnet20", 4), 16)
    expected = capture(model.eval(), graph, images_for("resnet20", 4), 16)
    for name, parts in rows.items():
        assert torch.equal(parts[1], expected[name][1])
        assert not parts[0].requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("stopped", [False, True])
def test_model_is_left_as_found(stopped):
    model, graph = build_small("resnet20").train(), graph_of("resnet20")
    model.bn1.eval()  # a frozen batch-norm in a network in training
    batches = images_for("resnet20", 4).split(2)
    rows = capture_rows(model, graph.pairs, batches, Sampling(16, 4, 0))
    next(rows)
    rows.close() if stopped else list(rows)
    assert not any(module._forward_hooks for module in model.modules())
    assert [name for name, module in model.named_modules() if not module.training] == ["bn1"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("conv2", "layer 'conv2' has NaN or infinity in its output"),
        ("conv1", "layer 'conv2' has NaN or infinity in its input"),
        ("fc3", "layer 'fc3' has NaN or infinity in its output"),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_name_their_layer(broken, message, value):
    model, graph = build_small("lenet5"), graph_of("lenet5")
    with torch.no_grad():
        model.get_submodule(broken).bias[0] = value
    with pytest.raises(ActivationError, match=message):
        capture(model, graph, images_for("lenet5", 2), 20)
    assert not any(module._forward_hooks for module in model.modules())
