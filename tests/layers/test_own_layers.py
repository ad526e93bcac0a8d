"""Layers of one's own: one class that says what it is, and networks of it can be pruned."""

import pytest
import torch
from oracles import Net, assert_zeroing, random_selection
from torch import nn

import mipp
from mipp.errors import LayerError, ModelError
from mipp.graph import build_graph
from mipp.layers import Layer, LinearMap, Side, layer_of, register_layer
from mipp.layers.linear import Linear


class Frozen(nn.Module):
    """A batch-norm written out, in buffers."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("scale", torch.rand(channels) + 0.5)
        self.register_buffer("shift", torch.randn(channels))

    def forward(self, x):
        return x * self.scale[:, None, None] + self.shift[:, None, None]


class Ranked(nn.Module):
    """Channels in the order of their values, which nothing can be cut out of."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels))

    def forward(self, x):
        return x.sort(1).values * self.scale[:, None, None]


class Known(Frozen):
    """The same, of a class that has an adapter."""


class Reversed(nn.Module):
    """A linear layer whose weight is (inputs, outputs)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)

    def forward(self, x):
        return x @ self.weight


@pytest.fixture(autouse=True)
def own_kinds(monkeypatch):
    from mipp.layers import table

    monkeypatch.setattr(table, "_adapters", {key: [*of] for key, of in table._adapters.items()})

    @register_layer
    class KnownLayer(Layer):
        types, kind, role = (Known,), "known", "carries"

        @property
        def outputs(self):
            return Side(len(self.module.scale), tensors={"scale": 0, "shift": 0})

    @register_layer
    class ReversedLayer(Linear):
        types, kind, operators, bias = (Reversed,), "reversed", frozenset(), None

        @property
        def inputs(self):
            return Side(self.module.weight.shape[0], -1, {"weight": 0})

        @property
        def outputs(self):
            return Side(self.module.weight.shape[1], -1, {"weight": 1})

        @property
        def map(self):
            return LinearMap(self.module.weight.T[:, :, None], None)

        def set_map(self, weight, bias):
            self.module.weight.copy_(weight.T)

    yield
    table._adapters_of.cache_clear()


def forward(net, x):
    return net.head(net.norm(net.first(x)).relu().mean((2, 3)))


def network(norm, seed=0):
    torch.manual_seed(seed)
    first, head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
    return Net(forward, first=first, norm=norm(8), head=head).double().eval()


def test_layer_that_nothing_is_known_of_leaves_its_channels_whole():
    with pytest.raises(ModelError, match="no channels to prune"):
        build_graph(network(Ranked), torch.zeros(1, 3, 6, 6).double())


def test_registered_layer_is_followed_and_cut_with_its_channels(seed):
    model, images = network(Known, seed), torch.randn(4, 3, 6, 6).double()
    graph = build_graph(model, images[:1])
    assert [member.module for member in graph.groups["first"].passengers] == ["norm"]
    assert_zeroing(model, graph, random_selection(graph, seed), images)
    pruned = mipp.prune(model, [images], "ratio:0.5", images=4)
    assert pruned.model.norm.scale.shape == (len(pruned.selection.kept["first"]),)


def perceptron(seed):
    torch.manual_seed(seed)
    layers = nn.Flatten(), Reversed(12, 16), nn.ReLU(), Reversed(16, 6), nn.ReLU(), nn.Linear(6, 3)
    return nn.Sequential(*layers).double().eval()


def test_registered_layer_makes_reads_and_is_refitted(seed):
    model, images = perceptron(seed), torch.randn(64, 3, 2, 2).double()
    graph = build_graph(model, images[:1])
    assert list(graph.groups) == ["3", "1"]
    assert_zeroing(model, graph, random_selection(graph, seed), images)
    settings = {"images": 64, "method": "l1"}
    bare = mipp.prune(model, [images], "ratio:0.5", repair="none", **settings)
    refitted = mipp.prune(model, [images], "ratio:0.5", **settings)

    def error(pruned):
        with torch.no_grad():
            return float((pruned.model(images) - model(images)).square().mean())

    assert error(refitted) < 0.8 * error(bare)


def test_own_adapter_comes_before_the_built_in_one():
    @register_layer
    class Odd(Linear):
        kind = "odd"

    assert layer_of(nn.Linear(2, 2)).kind == "odd"


def test_adapter_of_the_most_specific_class_is_taken():
    class Special(nn.Linear):
        pass

    @register_layer
    class Own(Linear):
        types, kind = (Special,), "special"

    assert (layer_of(Special(2, 2)).kind, layer_of(nn.Linear(2, 2)).kind) == ("special", "linear")


def test_adapter_that_is_none_is_refused():
    with pytest.raises(LayerError, match=r"derives from mipp\.layers\.Layer, got function"):
        register_layer(lambda module: module)

    class Nothing(Layer):
        pass

    with pytest.raises(LayerError, match=r"Nothing cannot be registered(.|\n)*set types"):
        register_layer(Nothing)
