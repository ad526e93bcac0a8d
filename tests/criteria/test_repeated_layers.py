"""Criteria on activations of layers that run several times see every call."""

import numpy as np
import pytest
import torch
from oracles import Net
from torch import nn

import mipp
from mipp.activations import capture_whole
from mipp.criteria import CRITERIA, CriterionInput
from mipp.errors import ScoreError
from mipp.graph import build_graph


def levels(seed):
    """A head for two levels, one of 6 x 6 and one of 3 x 3 places; only the first is of rank 1."""

    def forward(net, x):
        p = net.stem(x).relu()
        return net.head(p).mean((2, 3)) + net.head(p[:, :, ::2, ::2]).mean((2, 3))

    torch.manual_seed(seed)
    net = Net(forward, stem=nn.Conv2d(3, 5, 1), head=nn.Conv2d(5, 2, 1))
    return net.double().eval(), torch.randn(7, 3, 6, 6).double()


def given_for(model, x):
    batches = [(part, torch.zeros(len(part)).long()) for part in x.split(4)]
    return CriterionInput(model, build_graph(model, x[:1]), lambda: iter(batches), 0)


@torch.no_grad()
def test_all_calls_are_captured_in_order(seed):
    model, x = levels(seed)
    p = model.stem(x[:4]).relu()
    first = next(iter(capture_whole(model, ["head"], "inputs", x.split(4))))
    assert [len(first), len(first["head"])] == [1, 2]
    for found, expected in zip(first["head"], (p, p[:, :, ::2, ::2]), strict=True):
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_hrank_is_the_mean_over_the_maps_of_all_calls(seed):
    model, x = levels(seed)
    p = model.stem(x).relu().numpy()
    shares = [np.linalg.matrix_rank(maps) / len(maps[0, 0]) for maps in (p, p[:, :, ::2, ::2])]
    expected = np.mean(np.concatenate(shares), 0)
    np.testing.assert_allclose(CRITERIA["hrank"](given_for(model, x))["stem"], expected)


@torch.no_grad()
def test_spread_of_a_layer_without_a_norm_is_that_of_all_its_calls(seed):
    def forward(net, x):
        return net.head(net.twice(x).mean((2, 3)) + net.twice(3 * x[:, :, ::2]).mean((2, 3)))

    torch.manual_seed(seed)
    model = Net(forward, twice=nn.Conv2d(3, 5, 1), head=nn.Linear(5, 2)).double().eval()
    x = torch.randn(7, 3, 6, 6).double()
    made = [model.twice(y).movedim(1, -1).flatten(0, -2) for y in (x, 3 * x[:, :, ::2])]
    expected = torch.cat(made).std(0, correction=0).numpy()
    np.testing.assert_allclose(CRITERIA["bn-scale"](given_for(model, x))["twice"], expected)


@pytest.mark.parametrize("act", [nn.GELU, nn.SiLU, nn.Tanh])
def test_maps_that_are_all_of_full_rank_are_refused_in_words(act):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), act(), nn.Conv2d(6, 6, 3), act(), nn.Flatten(), nn.Linear(96, 2)
    with pytest.raises(ScoreError, match=r"'hrank'.*tells no unit.*(?s:.*)full rank"):
        mipp.prune(nn.Sequential(*layers).eval(), [torch.randn(8, 3, 8, 8)], method="hrank")
