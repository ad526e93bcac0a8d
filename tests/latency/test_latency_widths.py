"""Modules at other widths are those that surgery leaves, and run."""

import copy

import pytest
import torch
from oracles import OWN_NETWORKS, build_own, build_small, images_for, own_images, small_vit

from mipp.cut import apply_selection
from mipp.evaluation import evaluating
from mipp.graph import build_graph
from mipp.inputs import tensors_in
from mipp.latency.clock import first_channels
from mipp.latency.widths import parts_of, typical
from mipp.models import ModelSpec, build_model
from mipp.vision import torchvision

CPU = torch.device("cpu")
SMALL = ("lenet5", "resnet20")
WIDER = {"mobilenet_v2": 32, "vit_b_16": 224, "shufflenet_v2_x0_5": 32}


def small_convnext():
    """Its norms permute the maps that they are given."""
    config = torchvision.models.convnext.CNBlockConfig
    blocks = [config(6, 10, 1), config(10, None, 1)]
    return torchvision.models.ConvNeXt(blocks, num_classes=3)


WITH_STREAMS = {"small vit": small_vit, "small convnext": small_convnext}


def network(name):
    if name in SMALL:
        return build_small(name), images_for(name, 2)
    if name in OWN_NETWORKS:
        return build_own(name), own_images(2)
    if name in WITH_STREAMS:
        torch.manual_seed(0)
        return WITH_STREAMS[name]().float().eval(), torch.rand(2, 3, 32, 32)
    size = WIDER[name]
    model = build_model(ModelSpec(name, classes=3, channels=3, size=size), seed=0).eval()
    return model, torch.rand(1, 3, size, size)


def shapes(module):
    return {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}


@pytest.mark.parametrize(
    "name",
    [*SMALL, *OWN_NETWORKS, *(pytest.param(n, marks=pytest.mark.slow) for n in WIDER)],
)  # fmt: skip
def test_cut_module_is_that_of_the_pruned_network(name):
    model, images = network(name)
    graph = build_graph(model, images[:1])
    kept = {group: max(1, width // 2) for group, width in graph.widths.items()}
    pruned = apply_selection(model, first_channels(graph, kept), images[:1])
    features = graph.features(kept)
    parts = parts_of(model, graph, images)
    assert parts
    for module, part in parts.items():
        cut = part.cut(*features[module])
        assert shapes(cut) == shapes(pruned.get_submodule(module)), module


@pytest.mark.parametrize("name", [
    *SMALL, *OWN_NETWORKS, *WITH_STREAMS, pytest.param("mobilenet_v2", marks=pytest.mark.slow)
])  # fmt: skip
def test_module_runs_at_every_width_of_its_grid(name):
    model, images = network(name)
    graph = build_graph(model, images[:1])
    for part in parts_of(model, graph, images).values():
        inputs, outputs = part.grid()
        full = sum(call.elements for call in part.calls)
        for i in inputs:
            for o in outputs:
                module = part.cut(i, o)
                with evaluating(module), torch.no_grad():
                    made = [tensors_in(module(*a, **k))[0] for a, k in part.inputs_at(i, o, CPU)]
                assert sum(map(torch.numel, made)) == full * o // part.cost.out_features


@pytest.mark.slow
def test_attention_runs_without_its_projection_at_every_width():
    model, images = network("vit_b_16")
    graph = build_graph(model, images)
    parts = parts_of(model, graph, images)
    name = next(n for n in parts if n.endswith("self_attention"))
    inputs, outputs = parts[name].grid()
    for o in outputs:
        module = parts[name].cut(inputs[0], o)
        (args, kwargs), = parts[name].inputs_at(inputs[0], o, CPU)  # fmt: skip
        with evaluating(module), torch.no_grad():
            assert module(*args, **kwargs)[0].shape == (*images.shape[:1], 197, o // 3)


@pytest.mark.parametrize("name", SMALL)
def test_grid_spans_the_widths_that_vary(name):
    model, images = network(name)
    graph = build_graph(model, images[:1])
    for part in parts_of(model, graph, images).values():
        cost = part.cost
        for widths, full, groups in zip(
            part.grid(),
            (cost.in_features, cost.out_features),
            (cost.inputs, cost.outputs),
            strict=True,
        ):
            assert widths[-1] == full
            assert list(widths) == sorted(set(widths))
            assert (len(widths) > 1) == bool(groups)
            assert widths[0] == 1 or not groups


@pytest.mark.parametrize(
    ("width", "full", "expected"),
    [
        (64, 64, 64),
        (48, 64, 56),
        (47, 64, 40),
        (4, 64, 8),
        (1, 64, 1),
        (16, 20, 20),
        (5, 12, 5),
        (96, 100, 100),
    ],
)
def test_typical_width_is_the_middle_of_a_block(width, full, expected):
    assert typical(width, full) == expected


@pytest.mark.parametrize("name", ["lenet5", "depthwise"])
def test_network_is_left_as_it_was(name):
    model, images = network(name)
    graph = build_graph(model, images[:1])
    before = copy.deepcopy(model.state_dict())
    model.train()
    for part in parts_of(model, graph, images).values():
        part.cut(*(widths[0] for widths in part.grid()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(m.training and not m._forward_hooks for m in model.modules())
