"""What a layer's outputs become, against the same sums written by hand."""

import pytest
import torch
import torch.nn.functional as F
from oracles import build_small, graph_of, images_for
from torch import nn

from mipp.activations import Sampling, capture_rows
from mipp.activations.targets import observed
from mipp.errors import ActivationError
from mipp.graph import build_graph


class Block(nn.Module):
    """A residual block written with functions, and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.first, self.norm = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.after = nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        inner = torch.sigmoid(self.norm(self.first(x)))
        x = F.relu(x + self.after(self.second(inner)))
        return self.head(x.mean((2, 3)))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.first(x)
        return self.second(F.relu(x) if x.sum() > 0 else x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.act = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        return self.act(self.layer(self.act(self.layer(x))))


def warmed(model, images):
    """The model with batch-norm statistics of its own."""
    model.train()
    with torch.no_grad():
        model(images)
    return model.eval()


def block(seed):
    torch.manual_seed(seed)
    images = torch.randn(3, 3, 4, 4)
    return warmed(Block(), images), images


def targets_of(model, images, targets, seed=0):
    """y of every row of every consumer, by the consumer's name."""
    graph = build_graph(model, images[:1])
    every = Sampling(10**6, len(images), seed)
    [rows] = capture_rows(model, graph.pairs, [images], every, targets)
    return {pair.consumer: rows[pair.name][1] for pair in graph.pairs}


def test_targets_are_what_the_sum_and_the_nonlinearity_make_of_outputs(seed):
    model, images = block(seed)
    found = targets_of(model, images, "activation")
    with torch.no_grad():
        x = F.relu(model.stem(images))
        inner = torch.sigmoid(model.norm(model.first(x)))
        whole = F.relu(x + model.after(model.second(inner)))
        logits = model(images)
    torch.testing.assert_close(found["first"], inner.permute(0, 2, 3, 1).reshape(-1, 6))
    torch.testing.assert_close(found["second"], whole.permute(0, 2, 3, 1).reshape(-1, 4))
    torch.testing.assert_close(found["head"], logits)


def test_targets_before_are_the_outputs_themselves(seed):
    model, images = block(seed)
    found = targets_of(model, images, "pre-activation")
    with torch.no_grad():
        first = model.first(F.relu(model.stem(images)))
    torch.testing.assert_close(found["first"], first.permute(0, 2, 3, 1).reshape(-1, 6))


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "vgg11"])
def test_inputs_are_the_same_rows_whatever_the_targets(name):
    model, graph, images = build_small(name), graph_of(name), images_for(name, 4)
    sampling = Sampling(64, len(images), 3)
    [plain] = capture_rows(model, graph.pairs, [images], sampling)
    [bent] = capture_rows(model, graph.pairs, [images], sampling, "activation")
    assert all(torch.equal(plain[pair][0], bent[pair][0]) for pair in plain)
    differ = [pair for pair in plain if not torch.equal(plain[pair][1], bent[pair][1])]
    assert len(differ) > len(plain) / 2
    assert all(plain[pair][1].shape == bent[pair][1].shape for pair in plain)


def test_network_is_left_as_found(seed):
    model, images = block(seed)
    before = set(vars(model)), list(dict(model.named_modules()))
    targets_of(model, images, "activation")
    assert (set(vars(model)), list(dict(model.named_modules()))) == before
    assert not any(module._forward_hooks for module in model.modules())


def test_layer_that_runs_twice_is_not_shown():
    seen = []
    watched = observed(Twice(), ["layer"], lambda layer, value: seen.append(layer))
    watched(torch.randn(2, 4))
    assert seen == []


def test_branches_on_values_are_refused():
    with pytest.raises(ActivationError, match=r"set extract\.targets=pre-activation"):
        observed(Branching(), ["first"], lambda layer, value: None)


def test_layer_hidden_in_a_module_is_refused_by_name():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with pytest.raises(ActivationError, match=r"layer '0\.linear1' is hidden"):
        observed(nn.Sequential(layer), ["0.linear1"], lambda layer, value: None)
