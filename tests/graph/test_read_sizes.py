"""Forward lays tensors out by sizes that it reads off others, or that a module keeps somewhere."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from oracles import assert_zeroing, random_selection
from torch import nn

import mipp
from mipp.graph import build_graph
from mipp.graph.layouts import less, names_of
from mipp.graph.read_sizes import Size
from mipp.metrics import count_macs

HEADS, SIZE, SIDE = 4, 3, 4
WIDTH, TOKENS = HEADS * SIZE, SIDE * SIDE


class Fused(nn.Module):
    """The size of a head is the width of what is read over the number of heads."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.scale = HEADS, SIZE**-0.5
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def parts(self, x):
        n, t, c = x.shape
        return self.qkv(x).reshape(n, t, 3, self.num_heads, c // self.num_heads)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.parts(x).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.proj((scores @ v).transpose(1, 2).reshape(n, t, c))


class ReadBySize(Fused):
    """`size()` in place of `shape`, and the width as heads times their size."""

    def parts(self, x):
        size = x.size(-1) // self.num_heads
        whole = size * self.num_heads
        return self.qkv(x).reshape(*x.shape[:2], 3, whole).unflatten(-1, (self.num_heads, size))


class OfChannels(Fused):
    """Features attend to features, and the size of a head is not told apart from other heads'."""

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.parts(x).permute(2, 0, 3, 1, 4)
        scores = (k.transpose(-2, -1) @ v * self.scale).softmax(-1)
        return self.proj((q @ scores).transpose(1, 2).reshape(n, t, c))


class Windows(Fused):
    """Attention within windows of a map."""

    def forward(self, x):
        n, _, c = x.shape
        x = x.view(n, 2, SIDE // 2, 2, SIDE // 2, c).transpose(2, 3).reshape(-1, TOKENS // 4, c)
        x = super().forward(x).view(n, 2, 2, SIDE // 2, SIDE // 2, c)
        return x.transpose(2, 3).reshape(n, TOKENS, c)


class Reduced(nn.Module):
    """Keys and values of a smaller map, which is laid out by the width of the stream."""

    def __init__(self):
        super().__init__()
        self.heads, self.size = HEADS, SIZE
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.reduce, self.norm = nn.Conv2d(WIDTH, WIDTH, 2, 2), nn.LayerNorm(WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def heads_of(self, x):
        return x.view(*x.size()[:-1], self.heads, self.size).transpose(1, 2)

    def forward(self, x):
        n, _, c = x.shape
        y = self.reduce(x.transpose(1, 2).reshape(n, c, SIDE, SIDE)).reshape(n, c, -1)
        y = self.norm(y.transpose(1, 2))
        q, k, v = self.heads_of(self.q(x)), self.heads_of(self.k(y)), self.heads_of(self.v(y))
        mixed = (q @ k.transpose(-2, -1) / SIZE**0.5).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Configured(Reduced):
    """The number of heads is one of a configuration that others hold too."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(heads=[7, HEADS], width=WIDTH)
        del self.heads

    def heads_of(self, x):
        return x.view(*x.shape[:2], self.config.heads[1], self.size).transpose(1, 2)


class InATuple(Reduced):
    def __init__(self):
        super().__init__()
        self.layout = (HEADS, SIZE)

    def heads_of(self, x):
        return x.view(*x.shape[:2], *self.layout).transpose(1, 2)


class Bias(nn.Module):
    """Biases by head and position, of a table whose shape the module keeps."""

    def __init__(self):
        super().__init__()
        self.heads, self.shape = HEADS, (TOKENS, TOKENS, HEADS)
        self.table = nn.Linear(2, HEADS)

    def values(self):
        at = torch.arange(TOKENS)
        offsets = torch.stack([at % SIDE, at // SIDE], 1).to(self.table.weight)
        given = (offsets[:, None] - offsets).flatten(0, 1)
        return self.table(given).view(-1, self.heads).view(self.shape).permute(2, 0, 1)


class Biased(Fused):
    """A part whose forward never runs, but another method of it."""

    def __init__(self):
        super().__init__()
        self.bias = Bias()

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.parts(x).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias.values()[None])
        return self.proj(mixed.transpose(1, 2).reshape(n, t, c))


class Split(Fused):
    """Equal parts of the length of what is read."""

    def parts(self, x):
        n, t, c = x.shape
        parts = self.qkv(x).split(c, -1)
        return torch.stack([part.view(n, t, self.num_heads, -1) for part in parts], 2)


class Modulated(nn.Module):
    """Parts of given lengths, two of which meet what is read (arXiv:2203.11926)."""

    def __init__(self):
        super().__init__()
        self.levels = 2
        self.f, self.proj = nn.Linear(WIDTH, 2 * WIDTH + self.levels), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        c = x.shape[-1]
        q, context, gates = torch.split(self.f(x), (c, c, self.levels), dim=2)
        mixed = (context.mean(1, keepdim=True) + context) * gates.sum(2, keepdim=True)
        return self.proj(q * mixed)


class Network(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.embed, self.attend = nn.Linear(5, WIDTH), attention
        self.hidden, self.out = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.attend(self.norm(x))
        return self.head((x + self.out(F.gelu(self.hidden(x)))).mean(1))


# attention -> units of the stream, and how many of its channels each is
STREAMS = {
    Fused: (HEADS, SIZE),
    ReadBySize: (HEADS, SIZE),
    OfChannels: (HEADS, SIZE),
    Windows: (HEADS, SIZE),
    Reduced: (WIDTH, 1),
    Configured: (WIDTH, 1),
    InATuple: (WIDTH, 1),
    Biased: (HEADS, SIZE),
    Split: (HEADS, SIZE),
    Modulated: (WIDTH, 1),
}


def network(kind, seed=0):
    torch.manual_seed(seed)
    return Network(kind()).double().eval(), torch.randn(8, TOKENS, 5).double()


@pytest.mark.parametrize("kind", STREAMS)
def test_what_is_laid_out_by_a_width_shrinks_with_it(kind):
    model, x = network(kind)
    graph = build_graph(model, x[:1])
    made = {
        member.module: (group.width, member.features.shape[1])
        for group in graph.groups.values()
        for member in group.producers
    }
    assert made["embed"] == STREAMS[kind]
    laid_out = "attend.reduce" if issubclass(kind, Reduced) else "attend.proj"
    assert made[laid_out] == STREAMS[kind]
    assert made.get("attend.q", (HEADS, SIZE)) == (HEADS, SIZE)


@pytest.mark.parametrize("kind", STREAMS)
def test_network_without_channels_is_the_network_with_these_at_zero(kind, seed):
    model, x = network(kind, seed)
    graph = build_graph(model, x[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), x)


@pytest.mark.parametrize("kind", STREAMS)
def test_pruned_network_meets_its_budget_and_trains(kind):
    model, x = network(kind)
    found = mipp.prune(model, [x], "macs:0.5", images=8)
    assert count_macs(found.model, x[0].shape) <= 0.5 * count_macs(model, x[0].shape)
    found.model.train()(x).square().sum().backward()
    gradients = [p.grad for p in found.model.parameters() if p.numel()]
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)


def test_a_configuration_of_others_stays():
    model, x = network(Configured)
    shared = model.shared = model.attend.config
    found = mipp.prune(model, [x], "macs:0.5", images=8).model
    assert found.attend.config.heads[1] < HEADS
    assert (shared.heads, found.shared.heads) == ([7, HEADS], [7, HEADS])


def test_numbers_are_found_and_changed_where_a_module_keeps_them():
    module = nn.Module()
    module.first, module.second, module.config = 4, (3, 4), SimpleNamespace(a=5, b=[6, 5])
    assert names_of(module, 4) == ["first", "second.1"]
    assert names_of(module, 5) == ["config.a", "config.b.1"]
    assert less(module.second, ["1"], 2) == (3, 2)
    assert less(module.config, ["b", "1"], 1).b == [6, 4]
    assert module.config.b == [6, 5]


def test_a_size_knows_what_it_counts_only_as_long_as_it_is_whole():
    size = Size.of(torch.arange(12).view(1, 12), 1)
    assert (size, size.parts) == (12, 1)
    part = size // 4
    assert (part, part.parts) == (3, 4)
    assert (part * 4, (4 * part).parts) == (12, 1)
    plain = (size // 5, part * 3, size + 1, copy.deepcopy(size))  # a copy outlives the pass
    assert not any(isinstance(other, Size) for other in plain)
