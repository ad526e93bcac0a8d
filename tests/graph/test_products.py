"""Multiply-accumulates beside the layers: the graph predicts what the cut network multiplies."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.metrics import count_macs
from mipp.selection.selection import Selection

TOKENS, WIDTH, HEADS, SIZE = 6, 12, 3, 4


class Attention(nn.Module):
    """Self-attention with separate projections, in several spellings."""

    def __init__(self, style):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, HEADS * SIZE) for _ in range(3))
        self.o, self.style = nn.Linear(HEADS * SIZE, WIDTH), style

    def forward(self, x):
        n, tokens, _ = x.shape
        q, k, v = (
            part(x).view(n, tokens, -1, SIZE).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        if self.style == "fused":
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.style == "einsum":
            shares = torch.einsum("nhqd,nhkd->nhqk", q, k).softmax(-1)
            y = torch.einsum("nhqk,nhkd->nhqd", shares, v)
        else:
            y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.o(y.transpose(1, 2).flatten(2))


class Tokens(nn.Module):
    """A stem, attention beside a skip connection, and a head."""

    def __init__(self, attention):
        super().__init__()
        self.stem, self.attention, self.head = nn.Linear(5, WIDTH), attention, nn.Linear(WIDTH, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.attention(x))


class TorchTokens(Tokens):
    def __init__(self, weights):
        super().__init__(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))
        self.weights = weights

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.attention(x, x, x, need_weights=self.weights)[0])


class Recurrent(nn.Module):
    """A convolution, an LSTM that reads it and a product with a bare parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, WIDTH)
        self.lstm, self.mixes = nn.LSTM(WIDTH, 4, batch_first=True), nn.Parameter(torch.eye(4))

    def forward(self, x):
        return self.lstm(self.second(self.first(x).relu()))[0] @ self.mixes


NETWORKS = {
    "fused": lambda: Tokens(Attention("fused")),
    "written out": lambda: Tokens(Attention("written out")),
    "einsum": lambda: Tokens(Attention("einsum")),
    "torch": lambda: TorchTokens(False),
    "torch, with shares": lambda: TorchTokens(True),
    "recurrent": Recurrent,
}
PROJECTIONS = TOKENS * (5 * WIDTH + 4 * WIDTH * HEADS * SIZE + WIDTH * 2)
PRODUCTS = 2 * TOKENS * TOKENS * HEADS * SIZE
LSTM = TOKENS * (5 * 8 + 8 * WIDTH + 4 * 4 * (WIDTH + 4) + 4 * 4)


def graph_of(name):
    model = NETWORKS[name]().eval()
    return model, build_graph(model, torch.randn(1, TOKENS, 5))


def cut(model, graph, counts):
    kept = {group: np.arange(count) for group, count in counts.items()}
    selection = Selection(kept, graph.widths, "test")
    return apply_selection(model, selection, torch.randn(1, TOKENS, 5))


@pytest.mark.parametrize("name", NETWORKS)
def test_full_count_is_the_hand_count(name):
    _, graph = graph_of(name)
    expected = LSTM if name == "recurrent" else PROJECTIONS + PRODUCTS
    assert graph.macs(graph.widths) == expected


@pytest.mark.parametrize("left", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_graph_predicts_what_the_cut_network_multiplies(name, left):
    model, graph = graph_of(name)
    counts = {group: min(left, width) for group, width in graph.widths.items()}
    found = count_macs(cut(model, graph, counts), (TOKENS, 5))
    assert graph.macs(counts) == found < graph.macs(graph.widths)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "recurrent"])
def test_products_are_linear_in_the_heads(name):
    _, graph = graph_of(name)
    [heads] = [group for group, width in graph.widths.items() if width == HEADS]
    fewer = graph.macs({**graph.widths, heads: HEADS - 1})
    # a head of four projections, and of both products
    gone = TOKENS * 4 * WIDTH * SIZE + 2 * TOKENS * TOKENS * SIZE
    assert graph.macs(graph.widths) - fewer == gone


def test_weight_that_is_used_without_its_module_counts():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(3, 3)

        def forward(self, x):
            return F.linear(self.b(self.a(x).relu()), self.c.weight).relu()

    model = Functional().eval()
    graph = build_graph(model, torch.randn(1, 5))
    assert graph.macs(graph.widths) == 5 * 8 + 8 * 3 + 3 * 3
    assert graph.macs({**graph.widths, "a": 4}) == 5 * 4 + 4 * 3 + 3 * 3
