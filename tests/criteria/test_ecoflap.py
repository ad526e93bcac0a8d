"""ECoFLaP's two halves against gradients and sums that are known, and the shares they lead to."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mipp.criteria import CRITERIA, CriterionInput, ecoflap
from mipp.criteria.shared.unit_weights import made_by
from mipp.graph import build_graph


def given_for(model, images, labels, loss=None, seed=0):
    batches = list(zip(images.split(7), labels.split(7), strict=True))
    return CriterionInput(model, build_graph(model, images[:1]), lambda: batches, seed, loss=loss)


def chain(seed, loss=F.mse_loss):
    """Linear layers alone: of each layer's weights a squared error is a quadratic form."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 1)).double()
    return given_for(model, torch.randn(40, 6).double(), torch.randn(40, 1).double(), loss, seed)


def norms_of(given):
    slices = {name: made_by(given, group) for name, group in given.graph.groups.items()}
    return ecoflap.gradient_norms(given, slices)


def exact_norm(given, layer):
    """Mean over the first images of the gradient's norm by one layer's weights."""
    images, labels = (torch.cat(parts) for parts in zip(*given.batches(), strict=True))
    norms = []
    for x, y in zip(images[:32, None], labels[:32, None], strict=True):
        loss = given.mean_loss(given.model(x), y)
        (slope,) = torch.autograd.grad(loss, given.model.get_submodule(layer).weight)
        norms.append(float(slope.norm()))
    return np.array(norms)


def test_norms_from_forward_passes_are_those_of_gradients(seed):
    """|N(0, 1)| has a deviation of 0.756 of its mean: each image adds that to the spread."""
    apart = []
    for draw in range(6):
        given = chain(seed)
        given = CriterionInput(given.model, given.graph, given.batches, draw, loss=given.loss)
        found = norms_of(given)
        for layer in ("0", "1"):
            exact = exact_norm(given, layer)
            spread = math.sqrt(math.pi / 2 - 1) * math.sqrt((exact**2).sum()) / len(exact)
            apart.append((found[layer] - exact.mean()) / spread)
    assert np.abs(apart).max() < 4.5
    assert abs(np.mean(apart)) < 4 / math.sqrt(len(apart))
    assert 0.6 < np.std(apart) < 1.4


def test_a_layer_that_the_loss_depends_on_more_is_more_important(seed):
    """Weights of the second layer a tenth as large, of the third ten times: equal outputs."""
    given = chain(seed)
    with torch.no_grad():
        given.model[1].weight *= 0.1
        given.model[1].bias *= 0.1
        given.model[2].weight *= 10
    first, second = (exact_norm(given, layer).mean() for layer in ("0", "1"))
    found = norms_of(given)
    assert second > 3 * first
    assert found["1"] > 2 * found["0"]


def test_local_scores_are_absolute_weights_times_norms_of_inputs(seed):
    """A convolution, one in two groups, each filter of which reads half of it, a linear layer."""
    torch.manual_seed(seed)
    grouped = nn.Conv2d(16, 12, 3, groups=2)
    layers = nn.Conv2d(2, 16, 3), nn.ReLU(), grouped, nn.ReLU(), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    images = torch.randn(20, 2, 6, 6).double()
    given = given_for(model, images, torch.zeros(20).long())
    found = ecoflap.wanda_sums(given)
    with torch.no_grad():
        read = {k: model[:k](images).transpose(0, 1).flatten(1).norm(dim=1) for k in (0, 2, 5)}
        read[2] = read[2].view(2, 8).repeat_interleave(6, 0)  # by filter
        for k, norms in read.items():
            sizes = model[k].weight.abs().reshape(*model[k].weight.shape[:2], -1).sum(2)
            rows = (sizes * norms).sum(1).numpy()
            (member,) = given.graph.groups[str(k)].producers
            np.testing.assert_allclose(found[str(k)], rows[member.features].sum(1), rtol=1e-12)


def test_weights_are_allotted_in_proportion_to_importance():
    """Two groups of 20 units, 3 times the importance: 4 are safe in each, then 3 to 1."""
    rng = np.random.default_rng(0)
    local = {"a": rng.random(20), "b": rng.random(20)}
    scores = ecoflap.allotted(local, {"a": 3.0, "b": 1.0}, {"a": 10, "b": 10})
    for name, values in scores.items():
        assert np.array_equal(np.argsort(values), np.argsort(local[name]))

    def kept(number):
        bar = np.sort(np.concatenate([*scores.values()]))[-number]
        return [(scores[name] >= bar).sum() for name in ("a", "b")]

    assert kept(8) == [4, 4]
    assert kept(16) == [10, 6]
    assert kept(24) == [16, 8]
    assert kept(32) == [20, 12]  # of a, all are there
    units = ecoflap.allotted(local, {"a": 1.0, "b": 1.0}, {"a": 10, "b": 30})
    bar = np.sort(np.concatenate([*units.values()]))[-16]
    assert (units["a"] >= bar).sum() - 4 == 3 * ((units["b"] >= bar).sum() - 4)


def test_a_loss_decides_between_groups(seed):
    first, second = (
        CRITERIA["ecoflap"](chain(seed, loss)) for loss in (F.mse_loss, lambda out, y: out.mean())
    )
    for name in ("0", "1"):
        assert np.array_equal(np.argsort(first[name]), np.argsort(second[name]))
    assert any(not np.allclose(first[name], second[name]) for name in ("0", "1"))


def test_tied_weights_are_moved_together():
    torch.manual_seed(0)
    first = nn.Linear(3, 3)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = first, nn.Linear(3, 3, bias=False)
            self.two.weight = self.one.weight
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(self.one(x).relu() + self.two(3 * x).relu())

    given = given_for(Twice().double(), torch.randn(32, 3).double(), torch.zeros(32).long())
    names = [name for name, group in given.graph.groups.items() if made_by(given, group)]
    found = norms_of(given)
    exact = exact_norm(given, "one")
    assert found[names[0]] == pytest.approx(exact.mean(), rel=0.5)
