"""Networks with narrower heads: the same function where fewer dimensions tell all of it."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

import mipp
from mipp.cut import apply_selection
from mipp.errors import ConfigError, CutError
from mipp.metrics import count_macs, count_params
from mipp.narrowing import attentions_in, narrowed, sizes_of_heads, with_head_sizes
from mipp.narrowing.narrow import _moments
from mipp.selection.selection import keep_all
from mipp.vision import torchvision  # before timm

IMAGES = torch.rand(48, 3, 16, 16, generator=torch.Generator().manual_seed(3))
WIDTH, HEADS = 48, 2  # heads of 24


class OfTorch(nn.Module):
    """One attention of torch over patches."""

    def __init__(self, batch_first=True, bias=True, kind=nn.MultiheadAttention):
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, 4, 4)
        self.attention = kind(WIDTH, HEADS, bias=bias, batch_first=batch_first)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        axis = 1 if self.attention.batch_first else 0
        tokens = tokens if axis else tokens.transpose(0, 1)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head((tokens + mixed).mean(axis))


class ByName(OfTorch):
    """An attention that is called by keywords."""

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        mixed = self.attention(need_weights=False, key=tokens, value=tokens, query=tokens)[0]
        return self.head((tokens + mixed).mean(1))


class Doubled(OfTorch):
    """Its output projection reads something else, too."""

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, tokens, tokens)[0]
        return self.head((self.attention.out_proj(tokens) + mixed).mean(1))


class Encoder(nn.Module):
    """Torch's encoder layer, which computes an attention by itself in eval mode."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, 4, 4)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x):
        return self.head(self.layer(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


class Mine(nn.MultiheadAttention):
    """Another forward."""

    def forward(self, *given, **options):
        mixed, shares = super().forward(*given, **options)
        return 2 * mixed, shares


class Across(OfTorch):
    """Keys and values of other tokens."""

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens.flip(1) ** 2, tokens)[0].mean(1))


class Reading(OfTorch):
    """What is read of an attention from outside changes the answer."""

    def __init__(self, read):
        super().__init__()
        self.read = read

    def forward(self, x):
        return super().forward(x) * self.read(self.attention)


class AcrossOfTransformers(OfTorch):
    """Fewer keys than queries, in an attention that is known where there are as many."""

    def __init__(self):
        super().__init__()
        bart = pytest.importorskip("transformers.models.bart.modeling_bart")
        config = bart.BartConfig(attn_implementation="eager")
        self.attention = bart.BartAttention(WIDTH, HEADS, config=config)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, key_value_states=tokens[:, :9])[0]
        return self.head((tokens + mixed).mean(1))


class Twice(OfTorch):
    """One attention under two names."""

    def __init__(self):
        super().__init__()
        self.again = self.attention


class Tied(OfTorch):
    """Another attention has the same projection."""

    def __init__(self):
        super().__init__()
        self.other = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.other.out_proj.weight = self.attention.out_proj.weight

    def forward(self, x):
        return super().forward(x) + self.other(*[torch.ones(1, 2, WIDTH)] * 3)[0].mean()


def of_timm(**options):
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": WIDTH, "num_heads": HEADS, "depth": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, **sizes, **options)


class OfTransformers(nn.Module):
    """The vision transformer of transformers."""

    def __init__(self):
        super().__init__()
        transformers = pytest.importorskip("transformers")
        config = transformers.ViTConfig(
            hidden_size=WIDTH,
            num_attention_heads=HEADS,
            num_hidden_layers=1,
            intermediate_size=64,
            image_size=16,
            patch_size=4,
            num_labels=5,
        )
        self.net = transformers.ViTForImageClassification(config)

    def forward(self, x):
        return self.net(x).logits


class SwinOfTransformers(OfTransformers):
    """Its windows."""

    def __init__(self):
        nn.Module.__init__(self)
        transformers = pytest.importorskip("transformers")
        sizes = {"image_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": WIDTH}
        config = transformers.SwinConfig(depths=[2], num_heads=[HEADS], num_labels=5, **sizes)
        self.net = transformers.SwinForImageClassification(config)


def swin_of_timm(kind="swin_tiny_patch4_window7_224"):
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": WIDTH}
    return timm.create_model(kind, num_classes=5, depths=(2,), num_heads=(HEADS,), **sizes)


def swin_of_torchvision(window=4, version="SwinTransformerBlock"):
    swin = torchvision.models.swin_transformer
    sizes = [2, 2], WIDTH, [2], [HEADS], [window] * 2
    return swin.SwinTransformer(*sizes, num_classes=5, block=getattr(swin, version))


BUILDS = {
    "torch": OfTorch,
    "torch, tokens first": partial(OfTorch, batch_first=False),
    "torch, no bias": partial(OfTorch, bias=False),
    "torch, by name": ByName,
    "torch, in an encoder": Encoder,
    "timm": of_timm,
    "timm, no bias": partial(of_timm, qkv_bias=False),
    "transformers": OfTransformers,
    "transformers, other tokens": AcrossOfTransformers,
    "windows of torchvision": swin_of_torchvision,
    "windows of torchvision, padded": partial(swin_of_torchvision, window=3),
    "windows of timm": swin_of_timm,
    "windows of transformers": SwinOfTransformers,
}


MAKE = ("qkv.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight")


def needing(net, dimensions):
    """The network in eval mode, of projections whose rows are so many, turned, in every head.

    A part that all keys have in common, which no softmax sees, is added.
    """
    generator = torch.Generator().manual_seed(0)
    size = WIDTH // HEADS
    with torch.no_grad():
        for name, weight in net.named_parameters():
            own = ".".join(name.split(".")[-2:])
            if own in MAKE or name.endswith("in_proj_weight"):
                for head in weight.split(size):
                    turn = torch.randn(size, dimensions, generator=generator)
                    head.copy_(turn @ torch.randn(dimensions, WIDTH, generator=generator) / 20)
            elif name.endswith(("in_proj_bias", "qkv.bias")):
                weight.chunk(3)[1].add_(3 * torch.randn(WIDTH, generator=generator))
            elif own in ("out_proj.weight", "proj.weight", "o_proj.weight") and weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) / 5)
    return net.eval()


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_network_that_needs_few_dimensions_computes_the_same_with_them(build):
    net = needing(build(), 7)
    made = narrowed(net, [IMAGES], 1 - 1e-9)
    sizes = sizes_of_heads(made, net)
    assert sizes
    assert set(sizes.values()) == {8}
    with torch.inference_mode():
        before, after = net(IMAGES), made(IMAGES)
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


VARIANTS = ("timm, no bias", "windows of torchvision, padded", "windows of timm",
            "windows of transformers")  # fmt: skip


@pytest.mark.parametrize("build", [
    pytest.param(build, id=name, marks=[pytest.mark.slow] if name in VARIANTS else [])
    for name, build in BUILDS.items()
])  # fmt: skip
def test_default_prunes_saves_loads_trains_and_exports(build, tmp_path):
    net = needing(build(), 7)
    pruned = mipp.prune(net, IMAGES, "macs:0.6")
    assert set(pruned.report.heads.values()) == {8}
    assert pruned.report.macs_dense == count_macs(net, (3, 16, 16))
    assert pruned.report.macs == count_macs(pruned.model, (3, 16, 16))
    assert pruned.report.macs / pruned.report.macs_dense <= 0.6
    pruned.save(tmp_path / "net.safetensors")
    torch.save(pruned.model, tmp_path / "net.pt")
    for loaded in (
        mipp.load(tmp_path / "net.safetensors", build),
        torch.load(tmp_path / "net.pt", weights_only=False),
    ):
        with torch.inference_mode():
            assert torch.equal(loaded(IMAGES), pruned.model(IMAGES))
    if build in (OfTorch, of_timm, OfTransformers, swin_of_torchvision, swin_of_timm):
        pruned.export(tmp_path)
        assert (tmp_path / "model.pt2").exists()
    pruned.model.train()(IMAGES).sum().backward()
    assert all(p.grad is not None for p in pruned.model.parameters())


LEFT = {
    "share of 1": (OfTorch, {"share": 1}),
    "named": (OfTorch, {"whole": ["attention"]}),
    "a part of it named": (OfTorch, {"whole": ["*.out_proj"]}),
    "own forward": (partial(OfTorch, kind=Mine), {}),
    "under two names": (Twice, {}),
    "tied": (Tied, {}),
    "projection called alone": (Doubled, {}),
    "size of a head read": (partial(Reading, lambda own: own.head_dim), {}),
    "shape of weights read": (partial(Reading, lambda own: own.in_proj_weight.shape[0]), {}),
    "weights read": (partial(Reading, lambda own: own.out_proj.weight.norm()), {}),
    "norms of queries and keys": (partial(of_timm, qk_norm=True), {}),
    "cosines": (partial(swin_of_torchvision, version="SwinTransformerBlockV2"), {}),
    "cosines of timm": (partial(swin_of_timm, kind="swinv2_tiny_window8_256"), {}),
}


@pytest.mark.parametrize(("build", "options"), LEFT.values(), ids=LEFT)
def test_heads_stay_as_wide_as_they_are(build, options):
    net = needing(build(), 7)
    assert narrowed(net, [IMAGES], **{"share": 0.99, **options}) is net


@pytest.mark.parametrize("read", [lambda own: own.head_dim, lambda own: own.in_proj_bias[100]])
def test_heads_that_the_network_reads_are_not_offered(read):
    assert mipp.inspect(OfTorch(), IMAGES[:2]).heads is not None
    assert mipp.inspect(Reading(read), IMAGES[:2]).heads is None


def test_attentions_are_known_whatever_their_weights():
    net = of_timm()
    for weight in net.parameters():
        nn.init.constant_(weight, torch.nan)
    assert len(attentions_in(net)) == 2
    for block in net.blocks:
        block.attn.fused_attn, block.attn.scale = False, 1.0
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.attn.proj.bias)
    assert attentions_in(net) == []


def test_images_that_are_all_alike_leave_the_function():
    alike = torch.full_like(IMAGES, 0.5)
    net = needing(OfTorch(), 7)
    made = narrowed(net, [alike], 0.99)
    assert sizes_of_heads(made, net) == {"attention": 8}
    with torch.inference_mode():
        assert torch.allclose(made(alike), net(alike), atol=1e-5)
    assert max(float(p.detach().abs().max()) for p in made.attention.parameters()) < 10


def test_too_few_tokens_tell_nothing_of_dimensions():
    net = needing(OfTorch(), 7)
    tokens_of_an_image, size = 16, WIDTH // HEADS
    few = 16 * size // tokens_of_an_image - 1
    assert narrowed(net, [IMAGES[:few]], 0.99) is net
    assert narrowed(net, [IMAGES[: few + 1]], 0.99) is not net


def test_attention_to_other_tokens_is_pruned_as_before():
    net = needing(Across(), 7)
    assert mipp.prune(net, IMAGES, "macs:0.8").report.heads == {}


def test_keys_count_by_how_they_differ_within_a_window():
    net = swin_of_torchvision().eval()
    attention = net.features[1][0].attn
    found = {one.name: one for one in attentions_in(net) if one.module is attention}
    with torch.inference_mode():
        maps = attention.qkv(net.features[1][0].norm1(net.features[0](IMAGES[:24])))
        [sums] = _moments(net, found, [IMAGES[:24]]).values()
    expected = torch.zeros_like(sums.keys)
    for row in (0, 4):
        for column in (0, 4):
            window = maps[:, row : row + 4, column : column + 4, WIDTH : 2 * WIDTH].double()
            for head, keys in enumerate(window.flatten(1, 2).chunk(HEADS, -1)):
                for own in keys - keys.mean(1, keepdim=True):
                    expected[head] += own.T @ own
    assert torch.allclose(sums.keys, expected, rtol=1e-5, atol=1e-5 * float(expected.max()))


def test_network_given_is_left_as_it_is():
    net = needing(OfTorch(), 7)
    before = copy.deepcopy(net.state_dict())
    mipp.prune(net, IMAGES, "macs:0.6")
    assert net.attention.head_dim == WIDTH // HEADS
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_frozen_weights_stay_frozen():
    net = needing(OfTorch(), 7)
    net.attention.in_proj_weight.requires_grad_(False)
    made = narrowed(net, [IMAGES], 0.99)
    assert not made.attention.in_proj_weight.requires_grad
    assert made.attention.out_proj.weight.requires_grad


def test_share_decides_how_narrow_heads_become():
    net = needing(of_timm(), 12)
    sizes = [
        sum(sizes_of_heads(narrowed(net, [IMAGES], share), net).values())
        for share in (0.3, 0.9, 1 - 1e-9)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 2 * 16


def test_budget_is_of_the_dense_network_whatever_becomes_narrower():
    net = needing(of_timm(), 7)
    for kind, measured in (
        ("macs", lambda m: count_macs(m, (3, 16, 16))),
        ("params", count_params),
    ):
        pruner = mipp.Pruner(net, IMAGES)
        plan = pruner.plan(f"{kind}:0.4")
        made = pruner.cut(plan).model
        assert measured(made) / measured(net) == pytest.approx(plan.spending()[kind], abs=1e-6)
        assert measured(made) / measured(net) <= 0.4


def test_every_method_cuts_the_network_with_narrower_heads():
    net = needing(of_timm(), 7)
    for method in ("mipp", "l1"):
        assert set(mipp.prune(net, IMAGES, "macs:0.5", method=method).report.heads.values()) == {8}


def test_what_is_to_be_left_alone_keeps_its_heads():
    net = needing(of_timm(), 7)
    once = (name for name in ["blocks.0.attn*"])  # read but once
    pruned = mipp.prune(net, IMAGES, "macs:0.7", ignore=once)
    assert pruned.report.heads == {"blocks.1.attn": 8}
    assert pruned.model.blocks[0].attn.head_dim == WIDTH // HEADS


def test_a_bare_string_is_no_list_of_heads_that_stay():
    with pytest.raises(ConfigError, match="whole_heads: expected a sequence of names"):
        mipp.Pruner(of_timm(), IMAGES, whole_heads="blocks.0.attn")


def test_plan_refuses_to_leave_alone_what_is_narrower_already():
    pruner = mipp.Pruner(needing(of_timm(), 7), IMAGES)
    for pattern in ("blocks.0.attn", "*.attn.proj", "blocks.0.*"):
        with pytest.raises(ConfigError, match=r"leave blocks.0.attn alone[\s\S]*narrow_heads=1"):
            pruner.plan("macs:0.7", limits=mipp.Limits(keep_inputs=(pattern,)))
    assert pruner.plan("macs:0.7", limits=mipp.Limits(ignore=("blocks.0.mlp*",))).selection


def test_budget_of_time_is_of_the_dense_network(monkeypatch):
    net = needing(OfTorch(), 7)
    monkeypatch.setattr(
        "mipp.latency.clock.latencies_ms",
        lambda models, shape, **_: [1e-3 * count_macs(model, shape) for model in models],
    )
    pruner = mipp.Pruner(net, IMAGES)
    share = count_macs(pruner.model, (3, 16, 16)) / count_macs(net, (3, 16, 16))
    assert share < 0.8
    graph = pruner._clock.measured(pruner.graph)
    assert graph.wider["latency"] == pytest.approx(1 / share)
    assert pruner._clock.share(keep_all(graph.widths)) == pytest.approx(share)


def test_sizes_that_do_not_fit_are_refused():
    net = OfTorch()
    with pytest.raises(CutError, match="'embed': expected heads of at least 8, got no such"):
        with_head_sizes(net, {"embed": 8})
    with pytest.raises(CutError, match="expected heads of at least 32, got 24"):
        with_head_sizes(net, {"attention": 32})


@pytest.mark.parametrize("narrow_heads", [0.99, 1])
def test_two_selections_as_one_have_the_narrowest_heads(narrow_heads):
    net = needing(OfTorch(), 7)
    first = mipp.prune(net, IMAGES, "macs:0.9", narrow_heads=narrow_heads)
    second = mipp.prune(first.model, IMAGES, "macs:0.6")
    both = first.selection.then(second.selection)
    assert both.head_sizes() == {"attention": 8}
    again = apply_selection(net, both, IMAGES[:1])
    assert {n: p.shape for n, p in again.state_dict().items()} == {
        n: p.shape for n, p in second.model.state_dict().items()
    }


def test_pruned_network_can_be_pruned_again():
    first = mipp.prune(needing(OfTorch(), 7), IMAGES, "macs:0.8")
    second = mipp.prune(first.model, IMAGES, "macs:0.8")
    assert second.report.macs_dense == first.report.macs
    assert second.report.macs <= 0.8 * first.report.macs
