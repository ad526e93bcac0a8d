"""Networks that people bring: how they are called, what they are given, what is refused."""

import dataclasses
import sys

import pytest
import torch
from torch import nn

from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.errors import CheckpointError, ModelError
from mipp.models import MODELS, ModelSpec, build_model, preferred_input, register_model

SOURCE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(64, classes))

class Deep:
    Net = Net

def build(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, classes))

def fixed():
    return Net(10)

def for_colour(classes, channels=3, size=24):
    return build(classes, channels, size)

def for_any(classes, channels=None, size=None):
    return build(classes, channels, size)

def nothing(): ...

def needy(depth): ...

def pooled(classes, channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, classes, 1))

network = Net(10)
"""
SPEC = ModelSpec("own_nets:build", classes=10, channels=1, size=8)


@pytest.fixture(autouse=True)
def own_nets(monkeypatch, tmp_path):
    """Start in a folder with a module of networks; what is registered is forgotten afterwards."""
    (tmp_path / "own_nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(MODELS, "_rows", dict(MODELS._rows))
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)


def named(attribute):
    return dataclasses.replace(SPEC, name=f"own_nets:{attribute}")


@pytest.mark.parametrize("attribute", ["build", "Net", "Deep.Net", "fixed", "for_colour"])
def test_network_is_made_from_what_its_function_or_class_names(attribute):
    model = build_model(named(attribute), seed=0)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_seed_decides_the_weights_of_an_own_network():
    first, again, other = (build_model(SPEC, seed=seed)[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("attribute", "wanted"),
    [
        ("build", (None, None)),
        ("for_colour", (3, 24)),
        ("for_any", (None, None)),
        ("Net", 2 * (None,)),
    ],
)
def test_defaults_say_what_images_a_network_is_made_for(attribute, wanted):
    assert preferred_input(f"own_nets:{attribute}") == wanted


def test_registered_network_is_made_by_its_name():
    @register_model("registered-net")
    def build(classes, channels, size=8):
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, classes))

    assert preferred_input("registered-net") == (None, 8)
    assert build_model(dataclasses.replace(SPEC, name="registered-net"))[1].out_features == 10


@pytest.mark.parametrize(
    ("attribute", "what"),
    [
        ("nothing", r"makes no network.\nExpected own_nets:nothing to return.*got a NoneType"),
        ("needy", r"of classes, channels, size by these names, got one that needs 'depth'"),
        ("network", r"a function that makes a network, or its class, got a network"),
        ("nn", r"expected a function that makes a network, got a module"),
        ("buid", r"has no 'buid'.*did you mean build\?"),
        ("pooled", r"10 classes.\nExpected outputs \(images, 10\).*got \(1, 10, 1, 1\)"),
    ],
)
def test_what_makes_no_network_is_refused(attribute, what):
    with pytest.raises(ModelError, match=f"(?s){what}"):
        build_model(named(attribute))


def test_network_with_too_few_outputs_is_refused():
    with pytest.raises(ModelError, match=r"(?s)11 classes.*outputs \(images, 11\).*\(1, 10\)"):
        build_model(dataclasses.replace(named("fixed"), classes=11))


def test_network_that_cannot_run_on_the_images_is_refused():
    with pytest.raises(ModelError, match=r"'own_nets:fixed' does not fit its input.*\n.*\(1, 9, 9"):
        build_model(dataclasses.replace(named("fixed"), size=9))


def test_network_that_makes_tensors_of_its_own_is_run_on_a_real_image():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(64, 10)

        def forward(self, x):
            return self.inner(x.flatten(1) + torch.arange(64.0))

    register_model("shifted")(Shifted)
    build_model(dataclasses.replace(SPEC, name="shifted"))


def test_named_network_comes_back_without_its_build_function(tmp_path):
    model = build_model(SPEC, seed=4)
    save_checkpoint(tmp_path / "own.safetensors", Checkpoint(model, SPEC, None, (1, 8, 8)))
    read = load_checkpoint(tmp_path / "own.safetensors").model
    assert torch.equal(read[1].weight, model[1].weight)


def test_named_network_that_cannot_be_imported_is_refused_in_words(tmp_path):
    spec = dataclasses.replace(SPEC, name="gone_nets:build")
    model = build_model(SPEC, seed=4)
    save_checkpoint(tmp_path / "own.safetensors", Checkpoint(model, spec, None, (1, 8, 8)))
    with pytest.raises(
        CheckpointError,
        match=r"(?s)cannot be made here.*no module gone_nets.*call mipp\.load\(",
    ):
        load_checkpoint(tmp_path / "own.safetensors")
    read = load_checkpoint(tmp_path / "own.safetensors", build=lambda: build_model(SPEC))
    assert torch.equal(read.model[1].weight, model[1].weight)
