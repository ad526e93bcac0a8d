"""Checkpoints: what comes back is what was saved, bit by bit, or a refusal that says why."""

import numpy as np
import pytest
import torch
from oracles import build_small, graph_of, images_for, random_selection, small_spec
from safetensors.torch import save_file
from torch import nn

import mipp
from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.cut import apply_selection
from mipp.errors import CheckpointError
from mipp.models import MODELS, build_model
from mipp.selection.selection import Selection

FAST = ("lenet-300-100", "lenet5", "lenet5-caffe", "resnet20", "vgg11")
BUILT = [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
OWN_SELECTION = Selection({"0": np.array([1, 2, 5])}, {"0": 8}, "test")


def pruned_checkpoint(name, seed=0):
    model, images = build_small(name).float(), images_for(name, 1).float()
    selection = random_selection(graph_of(name), seed)
    pruned = apply_selection(model, selection, images)
    return Checkpoint(pruned, small_spec(name), selection, tuple(images.shape[1:]))


def build_mine(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))


def save_mine(path, selection=None):
    model = build_mine()
    if selection is not None:
        model = apply_selection(model, selection, torch.zeros(1, 4))
    save_checkpoint(path, Checkpoint(model, None, selection, (4,)))
    return model.eval()


def assert_same_state(model, other):
    assert model.state_dict().keys() == other.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("name", BUILT)
def test_pruned_network_comes_back_bit_by_bit(name, tmp_path, seed):
    saved = pruned_checkpoint(name, seed)
    save_checkpoint(tmp_path / "model.safetensors", saved)
    read = load_checkpoint(tmp_path / "model.safetensors")
    assert_same_state(read.model, saved.model)
    images = images_for(name, 2).float()
    with torch.no_grad():
        assert torch.equal(read.model.eval()(images), saved.model.eval()(images))


def test_recipe_comes_back(tmp_path):
    saved = pruned_checkpoint("lenet5")
    save_checkpoint(tmp_path / "model.safetensors", saved)
    read = load_checkpoint(tmp_path / "model.safetensors")
    assert (read.spec, read.shape) == (saved.spec, saved.shape)
    assert read.selection.to_json() == saved.selection.to_json()


def test_dense_network_comes_back_bit_by_bit(tmp_path):
    spec = small_spec("resnet20")
    model = build_model(spec, seed=3)
    save_checkpoint(tmp_path / "model.safetensors", Checkpoint(model, spec, None, (3, 32, 32)))
    read = load_checkpoint(tmp_path / "model.safetensors")
    assert read.selection is None
    assert_same_state(read.model, model)


@pytest.mark.parametrize("selection", [None, OWN_SELECTION])
def test_own_network_comes_back_with_its_build_function(selection, tmp_path):
    model = save_mine(tmp_path / "model.safetensors", selection)
    read = load_checkpoint(tmp_path / "model.safetensors", build=build_mine)
    assert_same_state(read.model, model)
    assert torch.equal(read.model.eval()(torch.ones(2, 4)), model(torch.ones(2, 4)))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("selection", [OWN_SELECTION, None])
def test_every_tensor_comes_back_in_its_own_type(selection, half, tmp_path):
    model = build_mine()
    if selection is not None:
        model = apply_selection(model, selection, torch.zeros(1, 4))
    model.to(half)[1].float()  # norms of a half-precision network often are not
    save_checkpoint(tmp_path / "m.safetensors", Checkpoint(model, None, selection, (4,)))
    read = load_checkpoint(tmp_path / "m.safetensors", build=build_mine).model
    assert_same_state(read, model)
    types = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in read.state_dict().items()} == types
    assert set(types.values()) == {half, torch.float32, torch.int64}


def test_tied_weights_of_another_type_stay_tied(tmp_path):
    def build():
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        model[2].weight = model[0].weight
        return model

    model = build().half()
    save_checkpoint(tmp_path / "m.safetensors", Checkpoint(model, None, None, (4,)))
    read = load_checkpoint(tmp_path / "m.safetensors", build=build).model
    assert read[0].weight is read[2].weight
    assert read[0].weight.dtype == torch.float16


def test_tensors_that_lie_within_one_another_are_saved_each_by_itself(tmp_path):
    def build():
        model = nn.Linear(4, 4)
        model.register_buffer("rows", model.weight.detach()[1:3])
        return model

    model = build()
    save_checkpoint(tmp_path / "m.safetensors", Checkpoint(model, None, None, (4,)))
    assert_same_state(load_checkpoint(tmp_path / "m.safetensors", build=build).model, model)


def test_two_saves_give_equal_bytes(tmp_path):
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in paths:
        save_checkpoint(path, pruned_checkpoint("resnet20"))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_loading_leaves_the_global_generator_alone(tmp_path):
    save_checkpoint(tmp_path / "model.safetensors", pruned_checkpoint("lenet5"))
    before = torch.get_rng_state()
    load_checkpoint(tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors cannot be read"):
        load_checkpoint(tmp_path / "gone.safetensors")


def test_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no tensors here")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"mipp": '{"format": "mipp-0"}'}])
def test_plain_weights_are_refused(metadata, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(build_mine().state_dict(), path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"has no recipe(.|\n)*or model\.weights"):
        load_checkpoint(path)


def test_own_network_without_its_build_function_is_refused(tmp_path):
    save_mine(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="holds a network of your own"):
        load_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("selection", [None, OWN_SELECTION], ids=["dense", "pruned"])
def test_build_function_of_another_network_is_refused(selection, tmp_path):
    save_mine(tmp_path / "model.safetensors", selection)
    with pytest.raises(CheckpointError, match="does not fit the network"):
        load_checkpoint(tmp_path / "model.safetensors", build=lambda: build_mine(width=9))


def test_selection_survives_its_text():
    selection = random_selection(graph_of("resnet20"), 0)
    read = Selection.from_json(selection.to_json())
    assert read.to_json() == selection.to_json()
    for group, channels in selection.kept.items():
        np.testing.assert_array_equal(read.kept[group], channels)
        assert sorted([*channels, *read.dropped(group)]) == list(range(read.width[group]))


@pytest.mark.parametrize("text", ["", "[]", '{"kept": {}}', '{"kept": 3, "width": {}}'])
def test_text_of_another_kind_is_no_selection(text):
    with pytest.raises(CheckpointError, match="selection cannot be read"):
        Selection.from_json(text)


def test_share_of_removed_units_is_counted_over_all_groups():
    selection = Selection({"a": np.array([0]), "b": np.arange(6)}, {"a": 4, "b": 6}, "test")
    assert selection.units_removed() == pytest.approx(0.3)


class Projecting(nn.Module):
    """A head that forward runs, and one that another call runs."""

    def __init__(self):
        super().__init__()
        self.first, self.head, self.other = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.first(x).relu())

    def project(self, x):
        return self.other(self.first(x).relu())


def call_other(model, x):
    return model.project(x)


def save_projecting(path, calls):
    torch.manual_seed(0)
    pruned = mipp.prune(Projecting().eval(), [torch.randn(64, 4)], "ratio:0.5", calls=calls)
    save_checkpoint(path, Checkpoint(pruned.model, None, pruned.selection, (4,)))
    return pruned.model


@pytest.mark.parametrize("calls", [["project"], [call_other], ["project", call_other]])
def test_calls_that_a_network_was_pruned_with_are_in_its_file(calls, tmp_path):
    model = save_projecting(tmp_path / "m.safetensors", calls)
    read = load_checkpoint(tmp_path / "m.safetensors", build=Projecting).model
    assert read.other.in_features == 4
    assert_same_state(read, model)


def test_call_without_a_name_is_asked_for(tmp_path):
    calls = ["project", lambda model, x: model.project(x)]
    model = save_projecting(tmp_path / "m.safetensors", calls)
    with pytest.raises(CheckpointError, match=r"calls=\[project, \(.*<lambda>\)\].*\n.*pass"):
        load_checkpoint(tmp_path / "m.safetensors", build=Projecting)
    read = load_checkpoint(tmp_path / "m.safetensors", build=Projecting, calls=calls).model
    assert_same_state(read, model)


def test_selection_made_without_calls_says_nothing_of_them():
    pruned = mipp.prune(Projecting().eval(), [torch.randn(64, 4)], "ratio:0.5", method="l1")
    assert "calls" not in pruned.selection.provenance


class Brought(nn.Module):
    """A network of a user's own, with batch-norm, which the default repair changes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture
def brought():
    torch.manual_seed(0)
    return mipp.prune(Brought(), torch.randn(64, 3, 8, 8), "ratio:0.5")


def test_pruned_network_is_saved_and_loaded_in_a_line_each(brought, tmp_path):
    file = tmp_path / "made" / "net.safetensors"
    optimizer = torch.optim.SGD(brought.model.train().parameters(), lr=0.1)
    brought.model(torch.randn(8, 3, 8, 8)).square().mean().backward()
    optimizer.step()  # what is saved is the network as it is now
    brought.save(str(file))
    assert [path.name for path in file.parent.iterdir()] == ["net.safetensors"]
    back, x = mipp.load(str(file), build=Brought), torch.randn(5, 3, 8, 8)
    assert not back.training
    assert sum(p.numel() for p in back.parameters()) < sum(
        p.numel() for p in Brought().parameters()
    )
    assert torch.equal(back(x), brought.model.eval()(x))


def test_network_of_ones_own_needs_what_builds_it(brought, tmp_path):
    brought.save(tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match=r"call mipp\.load\(path, build=MyNet\)"):
        mipp.load(tmp_path / "net.safetensors")


def test_a_save_that_fails_leaves_the_file_before(brought, tmp_path, monkeypatch):
    file = tmp_path / "net.safetensors"
    brought.save(file)
    before = file.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mipp.checkpoint.recipe.save_file", full)
    dense = Checkpoint(nn.Linear(4, 2), None, None, (4,))
    for save in (lambda: brought.save(file), lambda: save_checkpoint(str(file), dense)):
        with pytest.raises(OSError, match="No space"):
            save()
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
