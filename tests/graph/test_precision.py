"""Networks that make tensors of single precision in forward, whatever their weights are."""

import pytest
import torch
from oracles import dropped_channels_zeroed, random_selection
from torch import nn
from torch.nn import functional

import mipp
from mipp.cut import apply_selection
from mipp.graph import build_graph


class Maker(nn.Module):
    """Two convolutions, what is made of their maps, and a head."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.made(torch.relu(self.first(x)))
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


class Sampled(Maker):
    """At places of a grid, as optical flow reads its features."""

    def made(self, x):
        line = torch.linspace(-1, 1, 6, dtype=torch.float32)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
        return functional.grid_sample(x, grid.expand(len(x), -1, -1, -1), align_corners=True)


class Blurred(Maker):
    """By a kernel that is written in forward."""

    def made(self, x):
        kernel = torch.full((x.shape[1], 1, 3, 3), 1 / 9, dtype=torch.float32)
        return functional.conv2d(x, kernel, groups=x.shape[1])


class Resized(Maker):
    """By a matrix over the places of a row."""

    def made(self, x):
        weights = torch.arange(x.shape[3] * 6).reshape(x.shape[3], 6).float().softmax(0)
        return x @ weights


@pytest.mark.parametrize("network", [Sampled, Blurred, Resized])
def test_network_that_does_not_run_in_double_precision_is_pruned(network, seed):
    torch.manual_seed(seed)
    model, x = network().eval(), torch.randn(16, 3, 10, 10)
    with pytest.raises(RuntimeError):
        network().double()(x.double())
    graph = build_graph(model, x[:1])
    assert graph.widths == {"first": 8, "second": 6}
    selection = random_selection(graph, seed)
    with torch.no_grad(), dropped_channels_zeroed(model, graph, selection):
        expected = model(x)
    with torch.no_grad():
        found = apply_selection(model, selection, x[:1])(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    pruned = mipp.prune(model, [x], budget="macs:0.5", images=16)
    assert pruned.report.macs <= 0.52 * pruned.report.macs_dense
    pruned.model.train()(x).sum().backward()
