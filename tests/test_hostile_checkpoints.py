"""Checkpoints that someone else made: no code of theirs runs, and what is no recipe is refused."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.errors import CheckpointError
from mipp.models import ModelSpec, build_model
from mipp.selection.selection import Selection

SPEC = ModelSpec("lenet-300-100", classes=10, channels=1, size=8)


@pytest.fixture
def written(tmp_path):
    """Writes a checkpoint of LeNet-300-100 whose recipe was changed."""
    path = tmp_path / "model.safetensors"
    model = build_model(SPEC, seed=0)
    save_checkpoint(path, Checkpoint(model, SPEC, None, (1, 8, 8)))

    def write(**changed):
        with safe_open(path, "pt") as file:
            recipe = json.loads(file.metadata()["mipp"])
        recipe["spec"] |= changed.pop("of_spec", {})
        text = changed.pop("text", json.dumps({**recipe, **changed}))
        save_file(model.state_dict(), path, metadata={"mipp": text})
        return path

    return write


def selection(**changed):
    whole = {
        "kept": {"fc1": [0, 2], "fc2": [1]},
        "width": {"fc1": 300, "fc2": 100},
        "method": "l1",
        "provenance": {},
    }
    return json.dumps({**whole, **changed})


NO_RECIPE = {
    "no JSON": {"text": "{"},
    "a list": {"text": "[]"},
    "nested without end": {"text": "[" * 100_000},
    "another format": {"format": "mipp-0"},
    "a word for the network": {"spec": "lenet5"},
    "a number for the network": {"spec": 3},
    "a network with more keys": {"of_spec": {"weights": "w.pt"}},
    "no name": {"of_spec": {"name": None}},
    "more classes than memory": {"of_spec": {"classes": 2**40}},
    "no classes": {"of_spec": {"classes": 0}},
    "half a class": {"of_spec": {"classes": 1.5}},
    "truth for channels": {"of_spec": {"channels": True}},
    "images larger than memory": {"of_spec": {"size": 2**20}},
    "a list for a selection": {"selection": [1]},
    "no shape": {"shape": None},
    "a word for a shape": {"shape": "8x8"},
    "a shape larger than memory": {"shape": [1, 2**20, 2**20]},
    "a negative shape": {"shape": [1, -8, 8]},
    "words in a shape": {"shape": [1, "8", 8]},
    "a type that is none": {"shape": ["load", 8]},
    "a type alone among shapes": {"shape": {"x": "int64"}},
    "a shape in a shape": {"shape": [[[1], 8]]},
    "numbers for named inputs": {"shape": {"x": 8}},
}


@pytest.mark.parametrize("kind", NO_RECIPE)
def test_recipe_of_another_kind_is_refused(kind, written):
    with pytest.raises(CheckpointError, match=r"has (no|a) recipe.*\nExpected .*, got"):
        load_checkpoint(written(**NO_RECIPE[kind]))


NO_SELECTION = {
    "no groups": selection(kept={}),
    "another group": selection(kept={"fc1": [0], "fc9": [0]}),
    "a number for channels": selection(kept={"fc1": 1, "fc2": [1]}),
    "half a channel": selection(kept={"fc1": [0.5], "fc2": [1]}),
    "channels in no order": selection(kept={"fc1": [2, 0], "fc2": [1]}),
    "a channel twice": selection(kept={"fc1": [2, 2], "fc2": [1]}),
    "a channel below": selection(kept={"fc1": [-1], "fc2": [1]}),
    "a channel above": selection(kept={"fc1": [300], "fc2": [1]}),
    "a channel beyond 64 bits": selection(kept={"fc1": [2**70], "fc2": [1]}),
    "channels of channels": selection(kept={"fc1": [[0]], "fc2": [1]}),
    "a width beyond memory": selection(width={"fc1": 2**50, "fc2": 100}),
    "a list for widths": selection(width=[300, 100]),
    "no method": selection(method=None),
    "numbers in the provenance": selection(provenance={"calls": 1}),
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("kind", NO_SELECTION)
def test_selection_of_another_kind_is_refused(kind, written):
    with pytest.raises(CheckpointError, match=r"selection cannot be read.\nExpected .*, got"):
        load_checkpoint(written(selection=NO_SELECTION[kind]))


def test_selection_of_another_network_is_refused(written):
    other = selection(kept={"conv1": [0]}, width={"conv1": 6})
    with pytest.raises(CheckpointError, match="does not fit the network"):
        load_checkpoint(written(selection=other))


def test_whole_selection_is_read():
    assert Selection.from_json(selection()).counts() == {"fc1": 2, "fc2": 1}


@pytest.mark.parametrize("name", ["os:abort", "sys:exit", "antigravity:fly", "builtins:breakpoint"])
def test_network_of_the_standard_library_is_not_called(name, written):
    with pytest.raises(CheckpointError, match=rf"code of Python's own.\nExpected .*, got '{name}'"):
        load_checkpoint(written(of_spec={"name": name}))


def test_calls_of_the_standard_library_are_not_called(written):
    path = written(selection=selection(provenance={"calls": "builtins:print"}))
    with pytest.raises(CheckpointError, match="code of Python's own"):
        load_checkpoint(path, build=lambda: build_model(SPEC))


class Trap:
    """What runs when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return (_spring, ())


def _spring():
    Trap.sprung = True


def test_pickled_checkpoint_runs_nothing(tmp_path):
    torch.save({"weights": Trap(), "model": nn.Linear(1, 1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "model.safetensors")
    assert not Trap.sprung
