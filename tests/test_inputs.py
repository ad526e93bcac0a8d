"""Networks that take several tensors, or give several: pruned like any other."""

import pytest
import torch
import torch.nn.functional as F
from oracles import dropped_channels_zeroed, random_selection
from torch import nn

import mipp
from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.cut import apply_selection
from mipp.errors import ModelError
from mipp.graph import build_graph
from mipp.inputs import call, each, joined, shape_of, tensors_of, zeros
from mipp.metrics import count_macs


class Pair(nn.Module):
    """Two images of different sizes; a module that both pass; a dict of outputs."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(1, 6, 3, padding=1)
        self.shared = nn.BatchNorm1d(5)
        self.inner, self.other = nn.Linear(8, 5), nn.Linear(6, 5)
        self.join, self.head = nn.Linear(10, 12), nn.Linear(12, 3)

    def forward(self, left, right):
        a = self.inner(F.relu(self.one(left)).mean((2, 3)))
        b = self.other(F.relu(self.two(right)).mean((2, 3)))
        both = torch.cat([F.relu(self.shared(a)), F.relu(self.shared(b))], 1)
        return {"logits": self.head(F.relu(self.join(both))), "parts": (a, [b])}


def pair_network(seed=0):
    torch.manual_seed(seed)
    return Pair().eval()


def images_pair(n):
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(n, 3, 8, 8, generator=generator)
    return left, torch.randn(n, 1, 6, 6, generator=generator)


def as_tuple(left, right):
    return (left, right)


def as_keywords(left, right):
    return {"right": right, "left": left}


LAYOUTS = [as_tuple, as_keywords]


def same(first, second, **tolerance):
    torch.testing.assert_close(first["logits"], second["logits"], **tolerance)
    torch.testing.assert_close(first["parts"], second["parts"], **tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_network_of_two_inputs_is_the_dense_one_with_channels_zeroed(layout, seed):
    model, inputs = pair_network(seed).double(), layout(*(x.double() for x in images_pair(3)))
    graph = build_graph(model, each(inputs, lambda tensor: tensor[:1]))
    selection = random_selection(graph, seed)
    cut = apply_selection(model, selection, each(inputs, lambda tensor: tensor[:1]))
    with dropped_channels_zeroed(model, graph, selection):
        expected = call(model, inputs)
    same(call(cut, inputs), expected)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_network_of_two_inputs_is_pruned_and_refitted(layout, labelled):
    model, inputs = pair_network(), layout(*images_pair(64))
    labels = torch.arange(64) % 3 if labelled else None
    batches = [
        (each(inputs, lambda x, i=i: x[i : i + 16]), None if labels is None else labels[i : i + 16])
        for i in range(0, 64, 16)
    ]
    found = {
        repair: mipp.prune(model, batches, "ratio:0.3", repair=repair)
        for repair in ("none", "refit")
    }
    widths = found["refit"].selection.width
    assert widths == {"join": 12, "two": 6, "one": 8}
    with torch.no_grad():
        dense = call(model, inputs)["logits"]
        error = {
            repair: (call(pruned.model, inputs)["logits"] - dense).square().mean()
            for repair, pruned in found.items()
        }
    assert error["refit"] < 0.5 * error["none"]
    assert found["refit"].report.macs == count_macs(found["refit"].model, shape_of(inputs))


def test_keywords_give_what_positions_give():
    model, (left, right) = pair_network(), images_pair(64)
    first = mipp.prune(model, [((left, right), None)], "ratio:0.3")
    second = mipp.prune(model, [{"left": left, "right": right}], "ratio:0.3")
    same(first.model(left, right), second.model(left, right), rtol=0, atol=0)


def test_lists_of_a_default_loader_are_inputs_too():
    left, right = images_pair(32)
    data = torch.utils.data.StackDataset(
        torch.utils.data.TensorDataset(left, right), torch.arange(32) % 3
    )
    found = mipp.prune(pair_network(), torch.utils.data.DataLoader(data, 8), "ratio:0.3")
    assert call(found.model, (left, right))["logits"].shape == (32, 3)


class Twice(nn.Module):
    """A module that runs twice, and a tuple of outputs."""

    def __init__(self, averaged=False):
        super().__init__()
        self.averaged = averaged
        self.stem, self.twice = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last, self.head = nn.Conv2d(6, 8, 3), nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.twice(F.relu(self.twice(F.relu(self.stem(x))))))
        x = F.relu(self.last(x)).mean((2, 3))
        return (self.head(x), x.mean()) if self.averaged else (self.head(x), len(x))


def test_network_with_a_shared_module_is_pruned_as_a_whole():
    torch.manual_seed(0)
    model, (images, _) = Twice().eval(), images_pair(64)
    found = mipp.prune(model, images, "ratio:0.25")
    assert sum(found.selection.counts().values()) <= 0.75 * (6 + 8)
    assert found.model.twice.in_channels == found.selection.counts()["stem"]
    logits, count = found.model(images)
    assert (logits.shape, count) == ((64, 3), 64)


def test_channels_that_are_averaged_into_an_output_are_left_whole():
    graph = build_graph(Twice(averaged=True).eval(), torch.zeros(1, 3, 8, 8))
    assert graph.left_whole["last"] == "one value of all of its channels is an output"


def test_criterion_with_a_loss_takes_two_inputs():
    class Logits(Pair):
        def forward(self, left, right):
            return super().forward(left, right)["logits"]

    batches = [(images_pair(16), torch.arange(16) % 3)]
    found = mipp.prune(Logits().eval(), batches, "ratio:0.3", method="taylor", repair="none")
    assert sum(map(len, found.selection.kept.values())) < 26


@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpoint_of_a_network_of_two_inputs_is_rebuilt(layout, tmp_path):
    inputs = layout(*images_pair(32))
    found = mipp.prune(pair_network(), [(inputs, None)], "ratio:0.3")
    path, shape = tmp_path / "model.safetensors", shape_of(inputs)
    save_checkpoint(path, Checkpoint(found.model, None, found.selection, shape))
    read = load_checkpoint(path, build=pair_network)
    assert read.shape == shape
    same(call(read.model.eval(), inputs), call(found.model, inputs), rtol=0, atol=0)


def test_inputs_that_forward_does_not_take_are_refused_with_their_shapes():
    with pytest.raises(ModelError, match=r"input of shape \(1, 3, 8, 8\) and \(1, 3, 8, 8\)"):
        build_graph(pair_network(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)))


def test_two_inputs_without_labels_are_taken_for_one_with_labels():
    with pytest.raises(ModelError, match="missing 1 required positional argument: 'right'"):
        mipp.prune(pair_network(), [images_pair(8)], "ratio:0.3")


@pytest.mark.parametrize("layout", [lambda left, _: left, *LAYOUTS])
def test_batches_are_joined_in_their_order(layout):
    left, right = images_pair(5)
    parts = [layout(left[i:j], right[i:j]) for i, j in ((0, 2), (2, 3), (3, 5))]
    whole = joined(parts)
    for found, expected in zip(tensors_of(whole), tensors_of(layout(left, right)), strict=True):
        assert torch.equal(found, expected)
    made = zeros(shape_of(whole), dtype=torch.float64)
    assert [tuple(t.shape[1:]) for t in tensors_of(made)] == [
        tuple(t.shape[1:]) for t in tensors_of(whole)
    ]
