"""torchvision's shifted windows: the twin computes the same, and heads and streams can go."""

import pickle

import numpy as np
import pytest
import torch
from kinds import flops
from oracles import assert_zeroing, random_selection

import mipp
from mipp.cut import apply_selection
from mipp.evaluation import evaluating
from mipp.graph import build_graph
from mipp.layers import layer_of
from mipp.layers.window_attention import WindowAttention, Windows
from mipp.metrics import count_macs, count_params
from mipp.selection.selection import Selection
from mipp.vision import torchvision

swin = torchvision.models.swin_transformer
VERSIONS = {
    1: (swin.ShiftedWindowAttention, {}),
    2: (swin.ShiftedWindowAttentionV2, {"block": swin.SwinTransformerBlockV2}),
}


def small_swin(version, seed=0):
    """Two stages of two blocks, windows of 4 on maps of 10 and 5 positions: padded and shifted."""
    torch.manual_seed(seed)
    options = dict(VERSIONS[version][1])
    if version == 2:
        options["downsample_layer"] = swin.PatchMergingV2
    network = swin.SwinTransformer([2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=5, **options)
    for parameter in network.parameters():
        if parameter.detach().std() < 0.1:
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return network.eval()


def images_of(n, seed=0):
    return torch.randn(n, 3, 20, 20, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shift", [[0, 0], [2, 2], [1, 3]])
@pytest.mark.parametrize("size", [(8, 8), (4, 8), (10, 7), (3, 5)])
def test_twin_computes_what_torchvision_does(version, shift, size, seed):
    torch.manual_seed(seed)
    attention = VERSIONS[version][0](12, [4, 4], shift, 3).double().eval()
    torch.nn.init.normal_(attention.qkv.bias)
    x = torch.randn(2, *size, 12).double()
    torch.testing.assert_close(Windows.forward(attention, x), attention(x))


@pytest.mark.parametrize("version", VERSIONS)
def test_watched_network_computes_the_same(version):
    model, images = small_swin(version).double(), images_of(2).double()
    expected = model(images)
    seen = []
    attention = next(m for m in model.modules() if isinstance(layer_of(m), WindowAttention))
    attention.qkv.register_forward_hook(lambda *_: seen.append(True))
    with evaluating(model):
        torch.testing.assert_close(model(images), expected)
    assert seen == [True]
    assert "forward" not in attention.__dict__


@pytest.mark.parametrize("version", VERSIONS)
def test_heads_and_streams_can_go(version, seed):
    model, images = small_swin(version, seed).double(), images_of(2, seed).double()
    graph = build_graph(model, images[:1])
    blocks = ["features.1.0", "features.1.1", "features.3.0", "features.3.1"]
    assert {f"{block}.attn" for block in blocks} < graph.groups.keys()
    assert {"features.0.0", "features.2.reduction"} < graph.groups.keys()
    assert set(graph.left_whole.values()) == {"feeds the network's output"}
    selection = random_selection(graph, seed)
    assert_zeroing(model, graph, selection, images)
    cut = apply_selection(model, selection, images[:1])
    assert torch.equal(pickle.loads(pickle.dumps(cut))(images), cut(images))
    assert graph.params(selection.counts()) == count_params(cut)
    assert graph.macs(selection.counts()) == count_macs(cut, (3, 20, 20))
    assert 2 * graph.macs(graph.widths) == flops(model, images[:1])
    assert 2 * graph.macs(selection.counts()) == flops(cut, images[:1])


@pytest.mark.parametrize("version", VERSIONS)
def test_head_that_stays_keeps_its_weights(version):
    model = small_swin(version)
    graph = build_graph(model, images_of(1))
    kept = {name: np.arange(width) for name, width in graph.widths.items()}
    kept["features.3.0.attn"] = np.array([1, 3])
    cut = apply_selection(model, Selection(kept, dict(graph.widths), "test"), images_of(1))
    attention, dense = cut.features[3][0].attn, model.features[3][0].attn
    rows = torch.arange(96).view(3, 4, 8)[:, [1, 3]].flatten()
    torch.testing.assert_close(attention.qkv.weight, dense.qkv.weight[rows], rtol=0, atol=0)
    bias = attention.get_relative_position_bias()
    torch.testing.assert_close(bias, dense.get_relative_position_bias()[:, [1, 3]])
    assert attention.num_heads == 2


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_windows_are_pruned_by_information_and_refitted(version):
    model, images = small_swin(version), images_of(16)
    pruner = mipp.Pruner(model, [images])
    plan, error = pruner.plan("macs:0.6"), {}
    for repair in (mipp.NoRepair(), mipp.Refit()):
        found = pruner.cut(plan, repair)
        assert 0.58 < found.report.macs / found.report.macs_dense <= 0.6
        error[repair] = (found.model(images) - model(images)).detach().square().mean()
    assert error[mipp.Refit()] < error[mipp.NoRepair()]
