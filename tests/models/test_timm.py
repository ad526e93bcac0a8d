"""timm's networks by name, and what of them can be pruned."""

import importlib.util

import numpy as np
import pytest
import torch
from oracles import dropped_channels_zeroed, enliven_norms, random_selection
from torch import nn

import mipp
from mipp.cut import apply_selection
from mipp.errors import ModelError
from mipp.evaluation import evaluating
from mipp.graph import build_graph
from mipp.metrics import count_macs, count_params
from mipp.models import ModelSpec, build_model, preferred_input

if importlib.util.find_spec("timm") is None:
    pytest.skip("timm is not installed: pip install mipp-pruning[timm]", allow_module_level=True)


def build_timm(name, size=32):
    model = build_model(ModelSpec(f"timm/{name}", 10, 3, size), seed=0).eval()
    enliven_norms(model)
    for parameter in model.parameters():
        if not parameter.detach().any():
            parameter.data.normal_(std=0.02)
    return model


def images_of(n, size=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, size, size, generator=generator)


# An outside count: the networks' publications and timm's own table, 1000 classes.
@pytest.mark.parametrize(
    ("name", "size", "millions"),
    [
        ("resnet18", 32, 11.69),
        ("mobilenetv3_small_050", 32, 1.59),
        ("vit_tiny_patch16_224", 224, 5.72),
    ],
)
def test_network_has_the_parameters_that_timm_states(name, size, millions):
    model = build_model(ModelSpec(f"timm/{name}", 1000, 3, size))
    assert round(count_params(model) / 1e6, 2) == millions


def test_grey_images_and_classes_are_told():
    model = build_model(ModelSpec("timm/resnet18", 7, 1, 32)).eval()
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


def test_network_of_a_fixed_size_is_told_another():
    assert preferred_input("timm/vit_tiny_patch16_224") == (None, 224)
    assert preferred_input("timm/resnet18") == (None, None)
    model = build_model(ModelSpec("timm/vit_tiny_patch16_224", 3, 3, 64))
    assert model.pos_embed.shape == (1, 17, 192)  # 16 patches and the class token


@pytest.mark.parametrize("ask", [preferred_input, lambda n: build_model(ModelSpec(n, 10, 3, 32))])
def test_unknown_network_is_refused_with_near_names(ask):
    with pytest.raises(ModelError, match=r"'timm/resnet19' .*unknown; did you mean timm/resnet1"):
        ask("timm/resnet19")


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("mobilenetv3_small_050", "blocks.2.0.conv_pwl"),
        pytest.param("convnext_atto", "stem.0", marks=pytest.mark.slow),
        pytest.param("vit_tiny_patch16_224", "patch_embed.proj", marks=pytest.mark.slow),
        pytest.param("resnet18", "conv1", marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", "blocks.5.0.conv_pwl", marks=pytest.mark.slow),
        pytest.param("regnety_002", "s4.b1.conv3.conv", marks=pytest.mark.slow),
        pytest.param("densenet121", "features.conv0", marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", "patch_embed.proj", marks=pytest.mark.slow),
    ],
)
def test_network_is_the_dense_one_with_channels_zeroed(name, stream, seed):
    size = 64 if "224" in name else 32
    model, images = build_timm(name, size).double(), images_of(2, size).double()
    graph = build_graph(model, images[:1])
    assert stream in graph.groups
    selection = random_selection(graph, seed)
    cut = apply_selection(model, selection, images[:1])
    with torch.no_grad(), evaluating(model):
        with dropped_channels_zeroed(model, graph, selection):
            expected = model(images)
        found = cut(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
    assert graph.params(selection.counts()) == count_params(cut)
    assert graph.macs(selection.counts()) == count_macs(cut, images.shape[1:])


@pytest.mark.slow  # the zoo has them too
def test_heads_of_an_attention_with_one_projection_are_channels():
    model = build_timm("vit_tiny_patch16_224", 64)
    graph = build_graph(model, images_of(1, 64))
    assert {graph.widths[f"blocks.{i}.attn"] for i in range(12)} == {3}
    selection = random_selection(graph, 0)
    selection.kept["blocks.4.attn"] = np.array([2])
    cut = apply_selection(model, selection, images_of(1, 64))
    attention, dense = cut.blocks[4].attn, model.blocks[4].attn
    assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (1, 64, 64)
    rows = torch.cat([dense.qkv.weight[part * 192 + 128 : part * 192 + 192] for part in range(3)])
    stream = torch.from_numpy(selection.kept["patch_embed.proj"])
    torch.testing.assert_close(attention.qkv.weight, rows[:, stream], rtol=0, atol=0)


class Batched(nn.Module):
    """timm's batch-norm with its activation, before a sum."""

    def __init__(self):
        super().__init__()
        import mipp.vision  # noqa: F401, I001 - timm imports torchvision
        from timm.layers import BatchNormAct2d

        self.first, self.norm = nn.Conv2d(3, 8, 3, bias=False), BatchNormAct2d(8)
        self.second, self.after = nn.Conv2d(8, 8, 1, bias=False), BatchNormAct2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.norm(self.first(x))
        return self.head((x + self.after(self.second(x))).mean((2, 3)))


def test_sum_after_an_activation_is_not_made_up_for(seed):
    torch.manual_seed(seed)
    model, images = Batched().eval(), torch.randn(64, 3, 8, 8)
    enliven_norms(model, seed)
    dense = model(images)
    error = {}
    for repair in ("none", "refit"):
        found = mipp.prune(model, images, "ratio:0.25", repair=repair)
        error[repair] = float((found.model(images) - dense).detach().square().mean())
    assert error["refit"] < 0.5 * error["none"]


TO_RESET = {
    "resnet10t": {"channels": (8, 8, 16, 16), "stem_width": 8},
    "vit_tiny_patch16_224": {"img_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 2},
    "deit_tiny_distilled_patch16_224": {
        "img_size": 32,
        "embed_dim": 32,
        "depth": 1,
        "num_heads": 2,
    },
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (4, 8, 8, 16)},
}


@pytest.mark.parametrize("name", TO_RESET)
def test_pruned_network_says_what_its_classifier_reads_and_takes_another(name):
    import mipp.vision  # noqa: F401, I001 - timm imports torchvision
    import timm

    model = timm.create_model(name, num_classes=10, **TO_RESET[name]).eval()
    selection = random_selection(build_graph(model, images_of(1)), 0)
    pruned = apply_selection(model, selection, images_of(1))
    with torch.no_grad():
        read = pruned.forward_head(pruned.forward_features(images_of(2)), pre_logits=True).shape[1]
    assert read < model.num_features
    assert pruned.num_features == pruned.head_hidden_size == read
    pruned.reset_classifier(4)
    assert pruned(images_of(2)).shape == (2, 4)
