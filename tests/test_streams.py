"""Embedding streams, layer-norms and attention: cut with the channels that run through them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import Net, assert_zeroing, dropped_channels_zeroed, random_selection
from torch import nn

import mipp
from mipp.activations import Sampling, capture_rows
from mipp.cut import apply_selection
from mipp.errors import ModelError
from mipp.evaluation import evaluating
from mipp.graph import build_graph
from mipp.metrics import count_macs, count_params
from mipp.refit import RefitSettings, refit
from mipp.selection.selection import Selection

# Hand-written modules


def functional(net, x):
    return {
        "logits": net.head(F.max_pool2d(F.relu(net.second(F.relu(net.first(x)))), 8).flatten(1))
    }


def sliced(net, x):
    left, right = F.relu(net.first(x)), F.relu(net.other(x))
    joined = torch.cat([right, left], 1)
    return net.head(F.relu(net.second(joined)).mean((2, 3))), [joined.mean()]


def normed(net, x):
    tokens = net.first(x).flatten(2).transpose(1, 2)
    return net.head(F.gelu(net.inner(net.norm(tokens))).mean(1))


def normed_network(norm):
    if getattr(norm, "weight", None) is not None:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return Net(
        normed,
        first=nn.Conv2d(3, 8, 2, stride=2),
        norm=norm,
        inner=nn.Linear(8, 12),
        head=nn.Linear(12, 4),
    )


HAND_WRITTEN = {
    "functional": lambda: Net(
        functional,
        first=nn.Conv2d(3, 8, 3, padding=1),
        second=nn.Conv2d(8, 6, 3, padding=1),
        head=nn.Linear(6, 4),
    ),
    "layer norm": lambda: normed_network(nn.LayerNorm(8)),
    "layer norm without factors": lambda: normed_network(nn.LayerNorm(8, elementwise_affine=False)),
    "rms norm": lambda: normed_network(nn.RMSNorm(8)),
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_hand_written_network_can_be_cut(name, seed):
    torch.manual_seed(seed)
    model, images = HAND_WRITTEN[name]().double().eval(), torch.randn(3, 3, 8, 8).double()
    graph = build_graph(model, images[:1])
    selection = random_selection(graph, seed)
    cut = apply_selection(model, selection, images[:1])
    with dropped_channels_zeroed(model, graph, selection):
        expected = model(images)
    torch.testing.assert_close(cut(images), expected)


def test_network_with_several_outputs_fixes_all_of_them():
    net = Net(
        sliced,
        first=nn.Conv2d(3, 4, 3),
        other=nn.Conv2d(3, 5, 3),
        second=nn.Conv2d(9, 6, 3),
        head=nn.Linear(6, 2),
    )
    graph = build_graph(net, torch.randn(1, 3, 8, 8))
    assert list(graph.groups) == ["second"]  # a mean over all channels of the others is an output
    assert "one value of all of its channels is an output" in graph.left_whole["first"]


@pytest.mark.parametrize("norm", ["layer norm", "layer norm without factors", "rms norm"])
def test_layer_norm_is_cut_with_the_stream_before_it(norm):
    model, images = HAND_WRITTEN[norm]().eval(), torch.randn(2, 3, 8, 8)
    graph = build_graph(model, images[:1])
    assert list(graph.groups) == ["inner", "first"]
    assert [member.module for member in graph.groups["first"].passengers] == ["norm"]
    kept = {"inner": np.arange(12), "first": np.array([1, 6])}
    cut = apply_selection(model, Selection(kept, dict(graph.widths), "test"), images[:1])
    assert cut.norm.normalized_shape == (2,)
    assert cut.norm.weight is None or cut.norm.weight.shape == (2,)
    assert graph.params({"inner": 12, "first": 2}) == count_params(cut)


def flat_normed(net, x):
    return net.head(net.norm(net.first(x)).mean((2, 3)))


def grouped_normed(net, x):
    return net.head(F.layer_norm(net.first(x).mean((2, 3)), (8,)))


@pytest.mark.parametrize(
    ("forward", "norm", "reason"),
    [
        (
            flat_normed,
            nn.LayerNorm((8, 7, 7)),
            "norm (LayerNorm) computes values of all of its channels",
        ),
        (
            grouped_normed,
            nn.Identity(),
            "native_layer_norm in forward computes values of all of its channels",
        ),
    ],
)
def test_norm_that_cannot_be_cut_leaves_its_channels_whole(forward, norm, reason):
    net = Net(forward, first=nn.Conv2d(3, 8, 2), norm=norm, head=nn.Linear(8, 4))
    with pytest.raises(ModelError) as raised:
        build_graph(net, torch.randn(1, 3, 8, 8))
    assert f"first: {reason}" in str(raised.value)


def with_token(net, x):
    tokens = net.first(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([net.token.expand(len(x), -1, -1), tokens], 1) + net.places
    return net.head(F.relu(net.inner(net.norm(tokens)))[:, 0])


def test_class_token_and_position_embedding_are_cut_with_the_stream(seed):
    torch.manual_seed(seed)
    net = Net(
        with_token,
        first=nn.Conv2d(3, 8, 2, stride=2),
        norm=nn.LayerNorm(8),
        inner=nn.Linear(8, 12),
        head=nn.Linear(12, 4),
    )
    net.token, net.places = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 17, 8))
    model, images = net.double().eval(), torch.randn(3, 3, 8, 8).double()
    graph = build_graph(model, images[:1])
    assert {bare.module for bare in graph.groups["first"].parameters} == {"token", "places"}
    assert_zeroing(model, graph, random_selection(graph, seed), images)


def reshaped(net, x):
    tokens = net.first(x).reshape(len(x), net.hidden_dim, -1).transpose(1, 2)
    return net.head(F.gelu(net.inner(tokens)).mean(1))


def test_number_that_forward_reshapes_by_is_cut_with_the_stream(seed):
    net = Net(reshaped, first=nn.Conv2d(3, 8, 2), inner=nn.Linear(8, 12), head=nn.Linear(12, 4))
    net.hidden_dim = 8
    model, images = net.double().eval(), torch.randn(3, 3, 8, 8).double()
    graph = build_graph(model, images[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), images)
    kept = {"first": np.array([2, 5]), "inner": np.arange(12)}
    cut = apply_selection(model, Selection(kept, dict(graph.widths), "test"), images[:1])
    assert (cut.hidden_dim, model.hidden_dim) == (2, 8)


# Attention


class Attention(nn.Module):
    """Self-attention over the positions of an image."""

    def __init__(self, **options):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, stride=2)
        self.attention = nn.MultiheadAttention(12, 4, **options)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        if not self.attention.batch_first:
            tokens = tokens.transpose(0, 1)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        mixed = mixed if self.attention.batch_first else mixed.transpose(0, 1)
        return self.head(F.gelu(mixed).mean(1))


ALL_ROWS = Sampling(32 * 16, 32, 0)
OPTIONS = [{"batch_first": True}, {"batch_first": False}, {"batch_first": True, "bias": False}]


@pytest.mark.parametrize("options", OPTIONS)
def test_attention_is_cut_by_heads(options, seed):
    torch.manual_seed(seed)
    model, images = Attention(**options).double().eval(), torch.randn(3, 3, 8, 8).double()
    graph = build_graph(model, images[:1])
    assert graph.widths["attention"] == 4
    selection = random_selection(graph, seed)
    selection.kept["attention"] = np.array([0, 3])
    assert_zeroing(model, graph, selection, images)


def test_attention_reads_a_stream_and_owns_what_it_projects_it_to():
    graph = build_graph(Attention(batch_first=True), torch.randn(1, 3, 8, 8))
    [pair] = graph.pairs_of("stem")
    assert (pair.consumer, pair.kind, [*pair.owners]) == ("attention", "attention", ["attention"])
    assert (pair.targets, pair.positions) == (36, 16)
    # query, key and value one after the other, a head of 3 after the other in each
    np.testing.assert_array_equal(pair.owners["attention"], np.tile(np.repeat(np.arange(4), 3), 3))


@pytest.mark.parametrize("batch_first", [True, False])
def test_rows_of_an_attention_are_its_input_and_its_in_projection(batch_first, seed):
    torch.manual_seed(seed)
    model, images = Attention(batch_first=batch_first).eval(), torch.randn(5, 3, 8, 8)
    [pair] = build_graph(model, images[:1]).pairs_of("stem")
    [rows] = capture_rows(model, [pair], [images], Sampling(80, 5, seed))
    x, y = rows[pair.name]
    with torch.no_grad():
        tokens = model.stem(images).permute(0, 2, 3, 1).reshape(80, 12)
    torch.testing.assert_close(x[:, :, 0], tokens)
    attention = model.attention
    torch.testing.assert_close(y, tokens @ attention.in_proj_weight.T + attention.in_proj_bias)


def test_in_projection_is_refitted(seed):
    torch.manual_seed(seed)
    model, images = Attention(batch_first=True).double().eval(), torch.randn(32, 3, 8, 8).double()
    model.stem.weight.data[0] = model.stem.weight.data[1]  # the channel that goes has a copy
    graph = build_graph(model, images[:1])
    kept = {name: np.arange(width) for name, width in graph.widths.items()}
    selection = Selection(kept | {"stem": np.arange(1, 12)}, dict(graph.widths), "test")
    for batches in ([images], list(images.split(8))):
        cut = apply_selection(model, selection, images[:1])
        refit(cut, model, graph, selection, lambda b=batches: b, RefitSettings(1e-9, ALL_ROWS))
        torch.testing.assert_close(cut(images), model(images), rtol=0, atol=1e-4)


class CrossAttention(nn.Module):
    """Attention of one sequence to another."""

    def __init__(self):
        super().__init__()
        self.stem, self.other = nn.Conv2d(3, 12, 2, stride=2), nn.Conv2d(3, 12, 2, stride=2)
        self.attention = nn.MultiheadAttention(12, 4, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        one, two = (s(x).flatten(2).transpose(1, 2) for s in (self.stem, self.other))
        return self.head(self.attention(one, two, two)[0].mean(1))


def test_streams_that_meet_in_attention_are_left_whole():
    graph = build_graph(CrossAttention().eval(), torch.randn(1, 3, 8, 8))
    assert list(graph.groups) == ["attention.out_proj", "attention"]
    reason = "attention (MultiheadAttention) reads it beside another query, key or value"
    assert graph.left_whole["stem"] == graph.left_whole["other"] == reason


def test_transformer_of_torch_is_pruned_whole(seed):
    torch.manual_seed(seed)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(net, x):
        return net.head(net.encoder(net.first(x).flatten(2).transpose(1, 2)).mean(1))

    parts = {"first": nn.Conv2d(3, 8, 2, stride=2), "head": nn.Linear(8, 3)}
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model, images = Net(forward, encoder=encoder, **parts).double().eval(), torch.randn(3, 3, 8, 8)
    graph = build_graph(model, images[:1].double())
    assert graph.widths["first"] == 8
    assert len(graph.groups) == 5  # the stream, and heads and hidden units of two layers
    assert_zeroing(model, graph, random_selection(graph, seed), images.double())


@pytest.mark.parametrize("options", OPTIONS)
def test_watched_attention_computes_the_same(options):
    model, images = Attention(**options).eval(), torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        expected = model(images)
        with evaluating(model):
            torch.testing.assert_close(model(images), expected)
    assert "forward" not in model.attention.__dict__


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_watched_attention_gives_the_same_weights(masked, average):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(12, 4, batch_first=True).eval()
    x, memory = torch.randn(2, 5, 12), torch.randn(2, 6, 12)
    options = {"average_attn_weights": average}
    if masked:
        options["key_padding_mask"] = torch.tensor([[False] * 5 + [True], [False] * 6])
        options["attn_mask"] = torch.randn(5, 6).gt(1)
    expected = attention(x, memory, memory, **options)
    with evaluating(attention):
        torch.testing.assert_close(attention(x, memory, memory, **options), expected)


@pytest.mark.parametrize(
    ("name", "left", "saved"),
    [
        # 16 tokens: 12 inputs to three projections of a head of 3, and back to 12; 16 tokens meet
        # 16 in two products of a head
        ("attention", 1, 16 * 3 * (12 * 9 + 3 * 12) + 2 * 16 * 16 * 3 * 3),
        # 16 tokens: a channel is made from 3 colours of 4 pixels and read by 36 projections
        ("stem", 5, 16 * 7 * (12 + 36)),
    ],
)
def test_pruned_attention_has_its_own_share_of_the_cost(name, left, saved):
    model, images = Attention(batch_first=True), torch.randn(1, 3, 8, 8)
    graph = build_graph(model, images)
    whole = dict(graph.widths)
    kept = {group: np.arange(width) for group, width in whole.items()} | {name: np.arange(left)}
    cut = apply_selection(model, Selection(kept, whole, "test"), images)
    counts = whole | {name: left}
    assert graph.macs(counts) == count_macs(cut, (3, 8, 8))
    assert graph.params(counts) == count_params(cut)
    assert graph.macs(whole) - graph.macs(counts) == saved


@pytest.mark.parametrize("repair", ["none", "refit"])
def test_vision_transformer_loses_channels_of_all_kinds_by_information(repair):
    from mipp.vision import torchvision

    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=5).eval()
    nn.init.normal_(model.heads.head.weight, std=0.1)
    images = torch.randn(32, 3, 32, 32)
    found = mipp.prune(model, images, "macs:0.5", repair=repair)
    widths = found.selection.width
    layers = [f"encoder.layers.encoder_layer_{i}" for i in (0, 1)]
    heads, hidden = (
        {f"{layer}.{part}" for layer in layers} for part in ("self_attention", "mlp.0")
    )
    assert widths == {"conv_proj": 32} | dict.fromkeys(heads, 4) | dict.fromkeys(hidden, 64)
    assert 0.48 < found.report.macs / found.report.macs_dense <= 0.5
    assert found.model(images).isfinite().all()
    assert list(found.report.left_whole) == ["heads.head"]


@pytest.mark.parametrize("method", ["l1", "taylor"])
def test_criteria_score_heads_by_their_own_weights(method):
    torch.manual_seed(0)
    model = Attention(batch_first=True).eval()
    with torch.no_grad():
        model.attention.in_proj_weight.view(3, 4, 3, 12)[:, 1] *= 1e-6
    batches = [(torch.randn(8, 3, 8, 8), torch.arange(8) % 3)]
    found = mipp.prune(model, batches, "ratio:0.1", method=method, repair="none")
    assert 1 not in found.selection.kept["attention"]
