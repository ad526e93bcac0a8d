"""Torch's attention given other keys or values than queries: each projection is cut by itself."""

import pytest
import torch
import torch.nn.functional as F
from oracles import assert_zeroing, random_selection
from torch import nn

import mipp
from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.graph import build_graph, with_projections
from mipp.layers.cross_attention import ProjectedAttention
from mipp.metrics import count_macs

WIDTH, HEADS, TOKENS = 12, 3, 5


class Network(nn.Module):
    """Two streams of tokens, an attention of one to the other, and a head."""

    def __init__(self, memory=WIDTH, **options):
        super().__init__()
        self.embed, self.remember = nn.Linear(6, WIDTH), nn.Linear(6, memory)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)
        self.hidden, self.out, self.head = (
            nn.Linear(WIDTH, 16),
            nn.Linear(16, WIDTH),
            nn.Linear(WIDTH, 4),
        )

    def attend(self, x, y):
        return x + self.attention(x, y, y)[0]

    def forward(self, x):
        x = self.attend(self.embed(x[:, :3]), self.remember(x))
        return self.head((x + self.out(F.gelu(self.hidden(x)))).mean(1))


class Pooled(Network):
    """One learnt query for all that there is, as in SigLIP's head."""

    def __init__(self):
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, WIDTH))

    def attend(self, x, y):
        return self.attention(self.probe.repeat(len(y), 1, 1), y, y, need_weights=False)[0]


class OtherWidths(Network):
    """Keys and values of other widths than the queries."""

    def __init__(self):
        super().__init__(8, kdim=8, vdim=8)


class WithPositions(Network):
    """Positions are added to queries and keys, not to values, as in DETR."""

    def __init__(self):
        super().__init__()
        self.position = nn.Embedding(3, WIDTH)

    def attend(self, x, y):
        q = x + self.position(torch.arange(3))
        return y.mean(1, keepdim=True) + self.attention(q, q, value=x)[0]


class ByName(Network):
    def attend(self, x, y):
        return x + self.attention(query=x, key=y, value=y, need_weights=False)[0]


class TokensFirst(Network):
    def __init__(self):
        super().__init__()
        self.attention.batch_first = False

    def attend(self, x, y):
        y = y.transpose(0, 1)
        return x + self.attention(x.transpose(0, 1), y, y)[0].transpose(0, 1)


class Decoder(Network):
    """Torch's own layer, which attends to its own tokens first."""

    def __init__(self):
        super().__init__()
        self.attention = nn.TransformerDecoderLayer(WIDTH, HEADS, 16, batch_first=True)

    def attend(self, x, y):
        return self.attention(x, y)


KINDS = [Network, Pooled, OtherWidths, WithPositions, ByName, TokensFirst, Decoder]


def network(kind):
    torch.manual_seed(0)
    return kind().eval(), torch.randn(8, TOKENS, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_projection_can_lose_heads_and_inputs(kind):
    model, x = network(kind)
    model = with_projections(model, x[:1])
    graph = build_graph(model, x[:1])
    name = "attention.multihead_attn" if kind is Decoder else "attention"
    heads = graph.groups[name]
    assert heads.width == HEADS
    assert [m.module for m in heads.producers] == [f"{name}.{p}_proj" for p in "qkv"]
    readers = {m.module for group in graph.groups.values() for m in group.consumers}
    assert {f"{name}.{p}_proj" for p in "kv"} <= readers
    assert_zeroing(
        model.double(), build_graph(model, x[:1].double()), random_selection(graph, 0), x.double()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_network_meets_its_budget_trains_and_comes_back(kind, tmp_path):
    model, x = network(kind)
    found = mipp.prune(model, [x], "macs:0.5", images=8)
    shape = x.shape[1:]
    assert count_macs(found.model, shape) <= 0.5 * count_macs(model, shape)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint(found.model, None, found.selection, tuple(shape)))
    back = load_checkpoint(path, build=lambda: network(kind)[0]).model.eval()
    with torch.no_grad():
        assert torch.equal(back(x), found.model.eval()(x))
    found.model.train()(x).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in found.model.parameters() if p.grad is not None)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 8, "vdim": 6}])
def test_projected_attention_computes_what_torch_does(options):
    attention = nn.MultiheadAttention(WIDTH, HEADS, **options).double().eval()
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    given = [torch.randn(n, 2, w).double() for n, w in ((3, WIDTH), (5, attention.kdim))]
    given.append(torch.randn(5, 2, attention.vdim).double())
    masks = {
        "key_padding_mask": torch.arange(10).view(2, 5) > 7,
        "attn_mask": torch.arange(15).view(3, 5) % 4 == 1,
    }
    own = ProjectedAttention(attention)
    for wanted in ({}, masks, {"need_weights": False}, {"average_attn_weights": False}):
        torch.testing.assert_close(own(*given, **wanted), attention(*given, **wanted))


def test_attention_to_its_own_tokens_stays_as_it_is():
    model = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True).eval()
    assert with_projections(model, torch.randn(1, TOKENS, WIDTH)) is model


HOOKS = {
    "before": ("register_forward_pre_hook", lambda _, given: (3 * given[0], *given[1:])),
    "after": ("register_forward_hook", lambda _, given, made: (3 * made[0], made[1])),
}


@pytest.mark.parametrize(("kind", "hook"), HOOKS.values(), ids=HOOKS)
def test_hooks_of_an_attention_run_where_layers_take_its_place(kind, hook):
    model, x = Network().eval(), torch.randn(4, TOKENS, 6)
    getattr(model.attention, kind)(hook)
    apart = with_projections(model, x[:1])
    assert isinstance(apart.attention, ProjectedAttention)
    torch.testing.assert_close(apart(x), model(x))


class Reading(Network):
    """What only torch's module has."""

    def attend(self, x, y):
        return super().attend(x, y) / self.attention.in_proj_weight.shape[1]


def test_attention_that_forward_reads_stays_as_it_is():
    model, x = Reading().eval(), torch.randn(64, TOKENS, 6)
    assert with_projections(model, x[:1]) is model
    assert mipp.prune(model, x, "ratio:0.3").report.macs < count_macs(model, (TOKENS, 6))
