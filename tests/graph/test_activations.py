"""Every activation of torch.nn: channels pass through each that treats them one by one."""

import inspect

import pytest
import torch
from oracles import assert_zeroing, random_selection
from torch import nn

from mipp.errors import ModelError
from mipp.graph import build_graph

MIX = {"Softmin", "Softmax", "Softmax2d", "LogSoftmax"}
GIVEN = {"Threshold": (0.1, 0.0), "GLU": (1,), "Softmin": (1,), "Softmax": (1,), "LogSoftmax": (1,)}
ACTIVATIONS = [
    name
    for name in nn.modules.activation.__all__
    if inspect.isclass(getattr(nn, name)) and name != "MultiheadAttention"
]


def network(name, seed):
    torch.manual_seed(seed)
    activation = getattr(nn, name)(*GIVEN.get(name, ()))
    read = 4 if name == "GLU" else 8
    layers = nn.Conv2d(3, 8, 3), activation, nn.Conv2d(read, 3, 3)
    return nn.Sequential(*layers).double().eval()


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in MIX])
def test_channels_pass_through_an_activation(name, seed):
    model, x = network(name, seed), torch.randn(4, 3, 7, 7).double()
    graph = build_graph(model, x[:1])
    assert graph.widths == {"0": 4 if name == "GLU" else 8}
    assert_zeroing(model, graph, random_selection(graph, seed), x)


@pytest.mark.parametrize("name", sorted(MIX))
def test_shares_among_channels_leave_them_whole(name):
    with pytest.raises(ModelError, match="no channels to prune"):
        build_graph(network(name, 0), torch.zeros(1, 3, 7, 7).double())
