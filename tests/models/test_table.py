"""Every network by name: sizes known from outside, seeds, refusals."""

import dataclasses
import importlib.util
import json

import pytest
import torch
from torch import nn

from mipp.errors import ModelError
from mipp.models import MODELS, ModelSpec, build_model, preferred_input
from mipp.vision import torchvision

# With 10 classes. LeNets: by hand. CIFAR ResNets: as published. The rest: kuangliu/pytorch-cifar,
# less the biases of its VGG's convolutions (2,752, 4,224 and 5,504).
PARAMETERS = {
    "lenet-300-100": (1, 28, 266_610),
    "lenet5": (1, 28, 61_706),
    "lenet5-caffe": (1, 28, 431_080),
    "resnet18": (3, 32, 11_173_962),
    "resnet20": (3, 32, 269_722),
    "resnet32": (3, 32, 464_154),
    "resnet34": (3, 32, 21_282_122),
    "resnet50": (3, 32, 23_520_842),
    "resnet56": (3, 32, 853_018),
    "resnet110": (3, 32, 1_727_962),
    "vgg11": (3, 32, 9_228_362),
    "vgg16": (3, 32, 14_724_042),
    "vgg19": (3, 32, 20_035_018),
}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model, *shape):
    """Multiply-accumulates of the convolutions and linear layers, by hooks on their outputs."""
    total = []

    def add(layer, _, out):
        per_output = layer.weight[0].numel()
        total.append(out[0].numel() * per_output)

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(add)
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return sum(total)


def test_parameter_table_has_every_model():
    assert set(PARAMETERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_match_the_outside_count(name):
    channels, size, expected = PARAMETERS[name]
    assert count(build_model(ModelSpec(name, 10, channels, size))) == expected


@pytest.mark.parametrize(
    ("name", "channels", "size", "expected"),
    [
        ("lenet-300-100", 1, 28, 266_200),  # 784 x 300 + 300 x 100 + 100 x 10
        ("lenet5", 1, 28, 416_520),  # 117,600 + 240,000 + 48,000 + 10,080 + 840
        ("lenet5-caffe", 1, 28, 2_293_000),  # 288,000 + 1,600,000 + 400,000 + 5,000
    ],
)
def test_multiply_accumulates_match_the_hand_count(name, channels, size, expected):
    model = build_model(ModelSpec(name, 10, channels, size))
    assert macs(model, channels, size, size) == expected


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_one_logit_per_class(name):
    channels, size, _ = PARAMETERS[name]
    model = build_model(ModelSpec(name, 7, channels, size)).eval()
    with torch.no_grad():
        logits = model(torch.zeros(2, channels, size, size))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet5", "lenet5-caffe"])
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 32), (3, 37)])
def test_lenets_take_other_sizes(name, channels, size):
    model = build_model(ModelSpec(name, 10, channels, size))
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 10)


def test_vgg_convolutions_before_batch_norm_have_no_bias():
    layers = list(build_model(ModelSpec("vgg11", 10, 3, 32)).features)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 8
    assert all(layer.bias is None for layer in convolutions)


def test_small_stem_keeps_the_resolution():
    model = build_model(ModelSpec("resnet18", 10, 1, 32)).eval()
    seen = []
    model.layer1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    with torch.no_grad():
        model(torch.zeros(1, 1, 32, 32))
    assert seen == [(1, 64, 32, 32)]


def test_torchvision_prefix_gives_the_network_for_large_images():
    ours = build_model(ModelSpec("resnet18", 10, 3, 32))
    theirs = build_model(ModelSpec("torchvision/resnet18", 10, 3, 224))
    assert ours.conv1.kernel_size == (3, 3)
    assert theirs.conv1.kernel_size == (7, 7)
    reference = torchvision.models.resnet18(weights=None, num_classes=10)
    assert count(theirs) == count(reference)


def test_bare_torchvision_name_is_enough_without_a_collision():
    spec = ModelSpec("squeezenet1_1", 10, 3, 64)
    prefixed = dataclasses.replace(spec, name="torchvision/squeezenet1_1")
    first, second = (build_model(s, seed=0).state_dict() for s in (spec, prefixed))
    assert all(torch.equal(first[name], second[name]) for name in second)


@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 96)])
def test_networks_with_auxiliary_heads_give_a_tensor_in_training(name, size):
    model = build_model(ModelSpec(name, 10, 3, size), seed=0)
    assert model.training
    with torch.no_grad():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_torchvision_network_fits_its_preferred_input(name):
    if name == "vit_h_14":
        pytest.skip("2.5 GB of weights")
    channels, size = preferred_input(f"torchvision/{name}")
    model = build_model(ModelSpec(f"torchvision/{name}", 10, channels, size or 224), seed=0)
    assert count(model) > 100_000


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "vgg11", "torchvision/mobilenet_v2"])
def test_seed_decides_the_weights(name):
    spec = ModelSpec(name, 10, 3, 32)
    first, second, other = (build_model(spec, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_seed_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    build_model(ModelSpec("lenet5", 10, 1, 28), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_seed_weights_come_from_the_global_generator():
    spec = ModelSpec("lenet5", 10, 1, 28)
    with torch.random.fork_rng(devices=[]):
        first, second = (build_model(spec).state_dict() for _ in range(2))
    assert not torch.equal(first["fc1.weight"], second["fc1.weight"])


def test_spec_survives_json():
    spec = ModelSpec("vgg16", 100, 3, 32)
    assert ModelSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet5", (None, 28)),
        ("vgg16", (None, 32)),
        ("resnet56", (None, 32)),
        ("resnet18", (None, 32)),
        ("torchvision/resnet18", (3, None)),
        ("mobilenet_v2", (3, None)),
        ("inception_v3", (3, 299)),
        ("vit_b_16", (3, 224)),
        ("swin_v2_t", (3, 224)),
        ("maxvit_t", (3, 224)),
    ],
)
def test_preferred_input(name, expected):
    assert preferred_input(name) == expected


@pytest.mark.parametrize("ask", [preferred_input, lambda n: build_model(ModelSpec(n, 10, 3, 32))])
@pytest.mark.parametrize(
    ("name", "near"),
    [("lenet-5", "lenet5"), ("mobilenetv2", "mobilenet_v2"), ("torchvision/resnet19", "resnet1")],
)
def test_unknown_model_is_refused_with_near_names(ask, name, near):
    with pytest.raises(ModelError, match=rf"unknown; did you mean .*{near}.*torchvision/NAME") as e:
        ask(name)
    assert len(str(e.value)) < 500
    assert all(own in str(e.value) for own in MODELS)


def test_torchvision_network_refuses_grey_images():
    with pytest.raises(ModelError, match=r"Expected images of 3 channels, got 1.\nRepeat grey"):
        build_model(ModelSpec("torchvision/resnet18", 10, 1, 224))


@pytest.mark.parametrize(
    ("name", "size", "remedy"),
    [
        ("lenet5", 8, "data.size=12"),
        ("lenet5-caffe", 12, "data.size=16"),
        ("vgg11", 16, "such as 32"),
        ("torchvision/alexnet", 32, "such as 224"),
        ("torchvision/vit_b_16", 32, "such as 224"),
    ],
)
def test_images_too_small_for_the_network_are_refused_when_it_is_built(name, size, remedy):
    with pytest.raises(ModelError, match=rf"(?s)does not fit its input.*{size}.*{remedy}"):
        build_model(ModelSpec(name, 10, 3, size))


@pytest.mark.parametrize(("name", "size"), [("lenet5", 12), ("lenet5-caffe", 16)])
def test_smallest_size_named_in_the_refusal_works(name, size):
    assert build_model(ModelSpec(name, 10, 3, size))(torch.zeros(1, 3, size, size)).shape == (1, 10)


@pytest.mark.parametrize("ask", [preferred_input, lambda n: build_model(ModelSpec(n, 10, 3, 32))])
def test_package_that_is_missing_is_named_with_its_command(ask, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"(?s)cannot be built.*pip install 'timm>=1.0.20'"):
        ask("timm/resnet18")
