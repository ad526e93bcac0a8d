"""Layers that run along places of every channel, as an MLP-Mixer's: channels pass through them."""

import numpy as np
import pytest
import torch
from kinds import Kind, built, checks_of, flops
from oracles import Net
from torch import nn

from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.graph.whole import whole_parts
from mipp.selection.selection import Selection

TOKENS = 9  # of patches of 2 x 2 in 6 x 6


def patches():
    return nn.Conv2d(3, 12, 2, 2)


def tokens_of(net, x):
    return net.stem(x).flatten(2).transpose(1, 2)


def mixer():
    """MLP-Mixer (arXiv:2105.01601): a perceptron over tokens, and one over channels."""

    def forward(net, x):
        x = tokens_of(net, x)
        x = x + net.back(net.over(net.first(x).transpose(1, 2)).relu()).transpose(1, 2)
        x = x + net.down(net.up(net.second(x)).relu())
        return net.head(x.mean(1))

    return Net(
        forward,
        stem=patches(),
        first=nn.LayerNorm(12),
        over=nn.Linear(TOKENS, 5),
        back=nn.Linear(5, TOKENS),
        second=nn.LayerNorm(12),
        up=nn.Linear(12, 20),
        down=nn.Linear(20, 12),
        head=nn.Linear(12, 3),
    )


def convolved():
    """The same by convolutions whose channels are the tokens."""

    def forward(net, x):
        x = tokens_of(net, x)
        x = x + net.back(net.over(x).relu())
        x = x + net.down(net.up(x).relu())
        return net.head(x.mean(1))

    return Net(
        forward,
        stem=patches(),
        over=nn.Conv1d(TOKENS, 5, 1),
        back=nn.Conv1d(5, TOKENS, 1),
        up=nn.Linear(12, 20),
        down=nn.Linear(20, 12),
        head=nn.Linear(12, 3),
    )


def scaled():
    """ResMLP (arXiv:2105.03404): one layer over tokens, and scales in place of norms."""

    def forward(net, x):
        x = tokens_of(net, x)
        x = x + net.scale * net.over((net.scale * x).transpose(1, 2)).transpose(1, 2)
        x = x + net.down(net.up(x).relu())
        return net.head(x.mean(1))

    net = Net(
        forward,
        stem=patches(),
        over=nn.Linear(TOKENS, TOKENS),
        up=nn.Linear(12, 20),
        down=nn.Linear(20, 12),
        head=nn.Linear(12, 3),
    )
    net.scale = nn.Parameter(torch.rand(12) + 0.5)
    return net


def gated():
    """gMLP (arXiv:2105.08050): half of the channels, along tokens, gates the other half."""

    def forward(net, x):
        x = tokens_of(net, x)
        one, other = net.up(x).relu().chunk(2, -1)
        x = x + net.down(one * net.over(net.norm(other).transpose(1, 2)).transpose(1, 2))
        return net.head(x.mean(1))

    return Net(
        forward,
        stem=patches(),
        up=nn.Linear(12, 20),
        norm=nn.LayerNorm(10),
        over=nn.Linear(TOKENS, TOKENS),
        down=nn.Linear(10, 12),
        head=nn.Linear(12, 3),
    )


def rows_and_columns():
    """Linear layers along the rows and the columns of a map, as in a vision permutator."""

    def forward(net, x):
        x = net.stem(x).relu()
        x = x + net.along_rows(x) + net.along_columns(x.transpose(2, 3)).transpose(2, 3)
        return net.head(net.back(x).relu().mean((2, 3)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, padding=1),
        along_rows=nn.Linear(6, 6),
        along_columns=nn.Linear(6, 6, bias=False),
        back=nn.Conv2d(12, 8, 1),
        head=nn.Linear(8, 3),
    )


KINDS = {
    "mixer": Kind(mixer, (3, 6, 6), 0.1),
    "convolved": Kind(convolved, (3, 6, 6), 0.1),
    "scaled": Kind(scaled, (3, 6, 6), 0.1),
    "gated": Kind(gated, (3, 6, 6), 0.1),
    "rows and columns": Kind(rows_and_columns, (3, 6, 6), 0.1),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_what_runs_along_places_costs_as_many_channels_as_are_kept(name):
    model, x = built(KINDS[name], 0)
    graph = build_graph(model, x[:1])
    kept = {group: np.arange(1 + width // 3) for group, width in graph.widths.items()}
    cut = apply_selection(model, Selection(kept, dict(graph.widths), "test"), x[:1])
    assert 2 * graph.macs({group: len(some) for group, some in kept.items()}) == flops(cut, x[:1])
    assert 2 * graph.macs(graph.widths) == flops(model, x[:1])


def test_tokens_stay():
    model, x = built(KINDS["mixer"], 0)
    graph = build_graph(model, x[:1])
    assert "runs along the places" in graph.left_whole["over"]
    [part] = [part for part in whole_parts(graph) if part.category == "kind"]
    assert set(part.reasons) == {"over", "back"}
    macs = 2 * 12 * 5 * TOKENS  # of both: channels, hidden tokens, tokens
    assert part.shares["macs"] == pytest.approx(2 * macs / flops(model, x[:1]))
    assert part.least["macs"] == pytest.approx(part.shares["macs"] / 12)
