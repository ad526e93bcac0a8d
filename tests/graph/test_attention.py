"""Heads of attention are found by what forward computes, whatever its names and its layout."""

import pytest
import torch
import torch.nn.functional as F
from oracles import assert_zeroing, random_selection
from torch import nn

import mipp
from mipp.graph import build_graph
from mipp.metrics import count_macs

HEADS, SIZE, WIDTH, TOKENS = 4, 6, 10, 5
INNER = HEADS * SIZE


def heads_of(x, size=SIZE):
    return x.view(*x.shape[:2], -1, size).transpose(1, 2)  # (n, heads, tokens, size)


def merged(x):
    return x.transpose(1, 2).flatten(2)


def written_out(q, k, v, bias=None):
    scores = q @ k.transpose(2, 3) * SIZE**-0.5
    return (scores if bias is None else scores + bias).softmax(-1) @ v


class Attention(nn.Module):
    """What the rows below share: projections with inner widths of their own."""

    inner = (INNER, INNER, INNER)

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, inner) for inner in self.inner)
        self.o = nn.Linear(INNER, WIDTH)

    def parts(self, x, y=None):
        y = x if y is None else y
        return tuple(map(heads_of, (self.q(x), self.k(y), self.v(y))))


class Separate(Attention):
    def forward(self, x):
        return self.o(merged(F.scaled_dot_product_attention(*self.parts(x))))


class WrittenOut(Attention):
    def forward(self, x):
        return self.o(merged(written_out(*self.parts(x))))


class Einsum(Attention):
    def forward(self, x):
        q, k, v = self.parts(x)
        scores = torch.einsum("nhid,nhjd->nhij", q, k).softmax(-1)
        return self.o(torch.einsum("nhij,nhjd->nihd", scores, v).flatten(2))


class Named(Attention):
    """Numbers of heads and features in attributes of any name."""

    def __init__(self):
        super().__init__()
        self.num_attention_heads, self.attention_head_size, self.all_head_size = HEADS, SIZE, INNER
        self.depth, self.spare = HEADS, INNER

    def forward(self, x):
        n, t, _ = x.shape
        shape = n, t, self.num_attention_heads, self.attention_head_size
        q, k, v = (part(x).view(shape).permute(0, 2, 1, 3) for part in (self.q, self.k, self.v))
        mixed = written_out(q, k, v).permute(0, 2, 1, 3).contiguous()
        return self.o(mixed.view(n, t, self.all_head_size))


class Scaled(Named):
    """A number that looks like a width, and is not one."""

    def forward(self, x):
        return super().forward(x) / self.spare


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = HEADS
        self.qkv, self.o = nn.Linear(WIDTH, 3 * INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, SIZE).permute(2, 0, 3, 1, 4).unbind(0)
        return self.o(merged(F.scaled_dot_product_attention(q, k, v)))


class Chunked(Fused):
    def forward(self, x):
        return self.o(merged(written_out(*map(heads_of, self.qkv(x).chunk(3, -1)))))


class HeadFirst(Fused):
    """Heads outside, and each with its three parts."""

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, -1, 3 * SIZE).transpose(1, 2).chunk(3, -1)
        return self.o(merged(F.scaled_dot_product_attention(q, k, v)))


class Grouped(Attention):
    """Two heads of queries for each of keys and values."""

    inner = (INNER, INNER // 2, INNER // 2)

    def forward(self, x):
        q, k, v = self.parts(x)
        k, v = (
            part[:, :, None].expand(-1, -1, 2, -1, -1).reshape(len(x), -1, *part.shape[2:])
            for part in (k, v)
        )
        return self.o(merged(F.scaled_dot_product_attention(q, k, v)))


class GroupedByTorch(Grouped):
    def forward(self, x):
        mixed = F.scaled_dot_product_attention(*self.parts(x), enable_gqa=True)
        return self.o(merged(mixed))


class MultiQuery(Attention):
    """All heads of queries share the keys and values of one."""

    inner = (INNER, SIZE, SIZE)

    def forward(self, x):
        return self.o(merged(written_out(*self.parts(x))))


class Biased(Attention):
    """A bias by position and head, looked up in a table that is larger than what is read."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(2 * TOKENS + 3, HEADS))
        at = torch.arange(TOKENS)
        self.register_buffer("index", at[:, None] - at + TOKENS - 1)

    def forward(self, x):
        bias = self.table[self.index.flatten()].view(TOKENS, TOKENS, -1).permute(2, 0, 1)
        return self.o(merged(written_out(*self.parts(x), bias=bias[None])))


class Masked(Attention):
    def forward(self, x):
        mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
        return self.o(merged(F.scaled_dot_product_attention(*self.parts(x), attn_mask=mask)))


class Normed(Attention):
    """Norms of the queries and keys of each head, with weights that heads share."""

    def __init__(self):
        super().__init__()
        self.n, self.m = nn.LayerNorm(SIZE), nn.RMSNorm(SIZE)

    def forward(self, x):
        q, k, v = self.parts(x)
        return self.o(merged(F.scaled_dot_product_attention(self.n(q), self.m(k), v)))


class Cosine(Attention):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(HEADS, 1, 1))

    def forward(self, x):
        q, k, v = self.parts(x)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(2, 3) * self.scale.exp()
        return self.o(merged(scores.softmax(-1) @ v))


class Rotated(Attention):
    """Rotary positions: halves of a head's features are turned into one another."""

    def forward(self, x):
        angles = torch.arange(TOKENS)[:, None] * torch.tensor([1.0, 0.3, 0.1], dtype=x.dtype)
        sin, cos = (f(angles).repeat(1, 2) for f in (torch.sin, torch.cos))
        q, k, v = self.parts(x)
        q, k = (p * cos + torch.cat([-p[..., 3:], p[..., :3]], -1) * sin for p in (q, k))
        return self.o(merged(F.scaled_dot_product_attention(q, k, v)))


class OfChannels(Attention):
    """Features attend to features of their head (arXiv:2106.09681)."""

    def forward(self, x):
        q, k, v = (part.transpose(2, 3) for part in self.parts(x))
        scores = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(2, 3)).softmax(-1)
        return self.o(merged((scores @ v).transpose(2, 3)))


class WithoutSoftmax(Attention):
    """Linear attention: keys with values first."""

    def forward(self, x):
        q, k, v = self.parts(x)
        return self.o(merged(q.relu() @ (k.relu().transpose(2, 3) @ v)))


class Gated(Attention):
    """Scores by content and by position, mixed by a gate for each head (arXiv:2103.10697)."""

    def __init__(self):
        super().__init__()
        self.places, self.gates = nn.Linear(2, HEADS), nn.Parameter(torch.randn(HEADS))
        self.register_buffer("apart", torch.randn(1, TOKENS, TOKENS, 2))

    def forward(self, x):
        q, k, v = self.parts(x)
        gates = self.gates.sigmoid().view(1, -1, 1, 1)
        content = (q @ k.transpose(2, 3)).softmax(-1)
        place = self.places(self.apart.expand(len(x), -1, -1, -1)).permute(0, 3, 1, 2).softmax(-1)
        scores = (1 - gates) * content + gates * place
        return self.o(merged(scores / scores.sum(-1, keepdim=True) @ v))


class Tempered(Attention):
    """Scores and values times a factor for each head, which comes first."""

    def __init__(self):
        super().__init__()
        self.factors = nn.Parameter(torch.rand(HEADS, 1, 1) + 0.5)

    def forward(self, x):
        q, k, v = self.parts(x)
        scores = (self.factors * (q @ k.transpose(2, 3))).softmax(-1)
        return self.o(merged((self.factors * scores) @ v))


class Encoded(Attention):
    """Linear attention with positions by a depthwise convolution of the values (CoaT)."""

    def __init__(self):
        super().__init__()
        self.heads, self.near = HEADS, nn.Conv1d(INNER, INNER, 3, padding=1, groups=INNER)

    def encode(self, q, v):
        n, heads, tokens, size = q.shape
        v = v[:, :, 1:].transpose(2, 3).reshape(n, heads * size, tokens - 1)
        v = self.near(v).reshape(n, heads, size, tokens - 1).transpose(2, 3)
        return F.pad(q[:, :, 1:] * v, (0, 0, 1, 0))

    def forward(self, x):
        q, k, v = self.parts(x)
        mixed = q @ (k.softmax(2).transpose(2, 3) @ v)
        return self.o(merged(SIZE**-0.5 * mixed + self.encode(q, v)))


class BiasedFirst(Attention):
    """A bias for each head before the scores, and a scale of its values after them."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))
        self.scale = nn.Parameter(torch.rand(HEADS, 1, SIZE) + 0.5)

    def forward(self, x):
        q, k, v = self.parts(x)
        scores = (self.bias + q @ k.transpose(2, 3)).softmax(-1)
        return self.o(merged(self.scale * (scores @ (self.scale * v))))


class Decoder(nn.Module):
    """Self-attention, then cross attention to another part of the tokens, both written here."""

    def __init__(self):
        super().__init__()
        self.own, self.cross = Separate(), Attention()

    def forward(self, x):
        y = x + self.own(x)
        return x + self.cross.o(
            merged(F.scaled_dot_product_attention(*self.cross.parts(y, x[:, 1:])))
        )


WHOLE_HEADS = {"q": SIZE, "k": SIZE, "v": SIZE}
ROWS = {  # attention -> heads that can go, features of each at its makers
    Separate: (HEADS, WHOLE_HEADS),
    WrittenOut: (HEADS, WHOLE_HEADS),
    Einsum: (HEADS, WHOLE_HEADS),
    Named: (HEADS, WHOLE_HEADS),
    Scaled: (HEADS, WHOLE_HEADS),
    Fused: (HEADS, {"qkv": 3 * SIZE}),
    Chunked: (HEADS, {"qkv": 3 * SIZE}),
    HeadFirst: (HEADS, {"qkv": 3 * SIZE}),
    Grouped: (HEADS // 2, {"q": 2 * SIZE, "k": SIZE, "v": SIZE}),
    GroupedByTorch: (HEADS // 2, {"q": 2 * SIZE, "k": SIZE, "v": SIZE}),
    MultiQuery: (HEADS, {"q": SIZE}),
    Biased: (HEADS, WHOLE_HEADS),
    Masked: (HEADS, WHOLE_HEADS),
    Normed: (HEADS, WHOLE_HEADS),
    Cosine: (HEADS, WHOLE_HEADS),
    Rotated: (HEADS, WHOLE_HEADS),
    OfChannels: (HEADS, WHOLE_HEADS),
    WithoutSoftmax: (HEADS, WHOLE_HEADS),
    Gated: (HEADS, WHOLE_HEADS | {"places": 1}),
    Tempered: (HEADS, WHOLE_HEADS),
    BiasedFirst: (HEADS, WHOLE_HEADS),
    Encoded: (HEADS, WHOLE_HEADS),
}


class Network(nn.Module):
    """A stream of tokens with one attention and hidden units."""

    def __init__(self, attention):
        super().__init__()
        self.embed, self.attend = nn.Linear(3, WIDTH), attention
        self.hidden, self.out, self.head = (
            nn.Linear(WIDTH, 12),
            nn.Linear(12, WIDTH),
            nn.Linear(WIDTH, 4),
        )

    def forward(self, x):
        x = self.embed(x)
        x = x + self.attend(x)
        x = x + self.out(F.gelu(self.hidden(x)))
        return self.head(x.mean(1))


def network(kind, seed=0):
    torch.manual_seed(seed)
    return Network(kind()).double().eval(), torch.randn(8, TOKENS, 3).double()


@pytest.mark.parametrize("kind", ROWS)
def test_head_is_a_channel_of_all_that_makes_it(kind):
    model, x = network(kind)
    graph = build_graph(model, x[:1])
    width, blocks = ROWS[kind]
    group = graph.groups["attend"]
    assert group.width == width
    made = {member.module: member.features.shape[1] for member in group.producers}
    assert made == {f"attend.{name}": block for name, block in blocks.items()}
    [reader] = group.consumers
    assert (reader.module, reader.features.shape) == ("attend.o", (width, INNER // width))
    assert {"embed", "hidden"} < graph.groups.keys()


@pytest.mark.parametrize("kind", ROWS)
def test_network_without_heads_is_the_network_with_these_at_zero(kind, seed):
    model, x = network(kind, seed)
    graph = build_graph(model, x[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), x)


@pytest.mark.parametrize("kind", ROWS)
def test_pruned_attention_meets_its_budget_and_trains(kind):
    model, x = network(kind)
    found = mipp.prune(model, [x], "macs:0.5", images=8)
    share = count_macs(found.model, x[0].shape) / count_macs(model, x[0].shape)
    assert share <= 0.5
    loss = found.model.train()(x).square().sum()
    loss.backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for p in found.model.parameters()
        if p.numel()
    )


def test_numbers_of_heads_follow_and_others_stay():
    model, x = network(Named)
    sizes = {size.attribute for size in build_graph(model, x[:1]).groups["attend"].sizes}
    assert sizes == {"num_attention_heads", "all_head_size"}


def test_attention_is_named_by_the_module_that_attends():
    model, x = network(Decoder)
    graph = build_graph(model, x[:1])
    assert {"attend", "attend.own"} < graph.groups.keys()
    assert_zeroing(model, graph, random_selection(graph, 0), x)
