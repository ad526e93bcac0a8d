"""Families of torchvision: what is pruned is right, small and usable."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from oracles import assert_zeroing, enliven_norms, random_selection
from torch import nn

import mipp
from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.metrics import count_macs, count_params
from mipp.models import ModelSpec, build_model

# The method that needs no activations, where information takes more than a test's time.
WIDE = "l1"
BUDGET, IMAGES = 0.5, 64


@dataclass(frozen=True)
class Row:
    """One network: image size, method, and how to build it if not by its name in torchvision."""

    size: int = 32
    method: str = "mipp"
    build: Callable[[], nn.Module] | None = None


def small_vit():
    from mipp.vision import torchvision

    return torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10)


def small_convnext():
    from mipp.vision import torchvision

    config = torchvision.models.convnext.CNBlockConfig
    blocks = [config(8, 16, 1), config(16, 24, 2), config(24, None, 1)]
    return torchvision.models.ConvNeXt(blocks, num_classes=10)


def vit_b_32():
    from mipp.vision import torchvision

    return torchvision.models.vit_b_32(image_size=64, num_classes=10)


FAST = {
    "squeezenet1_1": Row(),
    "shufflenet_v2_x0_5": Row(),
    "mobilenet_v3_small": Row(method=WIDE),
    "small vit": Row(build=small_vit),
    "small convnext": Row(build=small_convnext),
}
SLOW = {
    "alexnet": Row(64, WIDE),
    "vgg11_bn": Row(32, WIDE),
    "resnet18": Row(32, WIDE),
    "resnet50": Row(32, WIDE),
    "resnext50_32x4d": Row(32, WIDE),
    "wide_resnet50_2": Row(32, WIDE),
    "densenet121": Row(32, WIDE),
    "googlenet": Row(32, WIDE),
    "inception_v3": Row(96, WIDE),
    "mobilenet_v2": Row(32, WIDE),
    "mnasnet0_5": Row(32, WIDE),
    "efficientnet_b0": Row(32, WIDE),
    "efficientnet_v2_s": Row(32, WIDE),
    "regnet_x_400mf": Row(32, WIDE),
    "regnet_y_400mf": Row(32, WIDE),
    "convnext_tiny": Row(32, WIDE),
    "vit_b_32": Row(64, WIDE, vit_b_32),
    "swin_t": Row(32, WIDE),
    "swin_v2_t": Row(32, WIDE),
    "maxvit_t": Row(224, WIDE),
}
NETWORKS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
TRACED_FAST = ("squeezenet1_1", "small vit", "small convnext")  # of the others tracing takes long
EXPORTED = [
    *TRACED_FAST,
    *(pytest.param(n, marks=pytest.mark.slow) for n in FAST | SLOW if n not in TRACED_FAST),
]
ZOO = FAST | SLOW


def images_of(name, n):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, ZOO[name].size, ZOO[name].size, generator=generator)


def built(name):
    """A network in which no zero hides a mistake."""
    row = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spec = ModelSpec(f"torchvision/{name}", 10, 3, row.size)
        model = row.build() if row.build else build_model(spec, seed=0)
        for parameter in model.parameters():
            if not parameter.detach().any():
                parameter.data.normal_(std=0.02)
    enliven_norms(model)
    return model.eval()


@functools.cache
def pruned(name):
    images = images_of(name, IMAGES)
    return mipp.prune(
        built(name), images.split(16), f"macs:{BUDGET}", method=ZOO[name].method, repair="none"
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_network_runs_within_its_budget(name):
    found = pruned(name)
    images = images_of(name, 2)
    assert found.model(images).isfinite().all()
    macs = count_macs(found.model, images.shape[1:])
    assert abs(macs / count_macs(built(name), images.shape[1:]) - BUDGET) < 0.02


@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_network_is_the_dense_one_with_channels_zeroed(name):
    model, images = built(name).double(), images_of(name, 2).double()
    graph = build_graph(model, images[:1])
    assert_zeroing(model, graph, pruned(name).selection, images)


@pytest.mark.parametrize("name", NETWORKS)
def test_any_other_selection_is_the_dense_one_with_channels_zeroed(name, seed):
    model, images = built(name).double(), images_of(name, 2).double()
    graph = build_graph(model, images[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), images)


@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_network_comes_back_bit_by_bit(name, tmp_path):
    found, path = pruned(name), tmp_path / "model.safetensors"
    shape = tuple(images_of(name, 1).shape[1:])
    save_checkpoint(path, Checkpoint(found.model, None, found.selection, shape))
    read = load_checkpoint(path, build=lambda: built(name)).model.eval()
    own = found.model.state_dict()
    assert own.keys() == read.state_dict().keys()
    assert all(torch.equal(own[key], value) for key, value in read.state_dict().items())
    with torch.no_grad():
        assert torch.equal(read(images_of(name, 2)), found.model(images_of(name, 2)))


@pytest.mark.parametrize("name", EXPORTED)
def test_program_of_the_pruned_network_computes_the_same(name, tmp_path):
    model, images = pruned(name).model, images_of(name, 4)
    [program] = mipp.export_network(model, images.shape[1:], tmp_path)
    run = torch.export.load(program.path).module()
    with torch.no_grad():
        expected = model(images)
        found = torch.cat([run(part) for part in images.split(program.batch or 4)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_network_can_be_trained(name):
    model = copy.deepcopy(pruned(name).model)
    model(images_of(name, 2)).square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 2
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_of_the_graph_are_those_of_the_pruned_network(name, seed):
    model, images = built(name), images_of(name, 1)
    graph = build_graph(model, images)
    selection = random_selection(graph, seed)
    cut = apply_selection(model, selection, images)
    assert graph.params(selection.counts()) == count_params(cut)
    assert graph.macs(selection.counts()) == count_macs(cut, images.shape[1:])


def test_what_stays_whole_is_named_with_its_reason():
    graph = build_graph(built("shufflenet_v2_x0_5"), images_of("shufflenet_v2_x0_5", 1))
    assert "splits its channels" in graph.left_whole["stage3.0.branch2.5"]
    assert graph.groups.keys().isdisjoint(graph.left_whole)
