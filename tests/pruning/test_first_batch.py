"""What people pass as calibration and as a network: it works, or one line says how to mend it."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as masks
from torch.utils.data import DataLoader, TensorDataset

import mipp
from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.errors import DataError, ModelError
from mipp.inputs import call, shape_of, zeros
from mipp.pruning.first_batch import EMPTY, checked

GENERATOR = torch.Generator().manual_seed(2)
X = torch.randn(64, 3, 8, 8, generator=GENERATOR)
Y = torch.randint(5, (64,), generator=GENERATOR)
DATA = TensorDataset(X, Y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.hidden, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 12), nn.Linear(12, 5)

    def forward(self, x):
        return self.head(self.hidden(self.conv(x).relu().mean((2, 3))).relu())


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval()


def batches(change=lambda x: x, labels=lambda y: y):
    return [(change(x), labels(y)) for x, y in zip(X.split(16), Y.split(16), strict=True)]


def without_gradients():
    with torch.inference_mode():
        return [(X.clone(), Y.clone())]


def used_up():
    loader = iter(batches())
    list(loader)
    return loader


RIGHT = {
    "a tensor": lambda: X,
    "a list of batches": lambda: list(X.split(16)),
    "pairs": batches,
    "lists of a default loader": lambda: DataLoader(DATA, 16, shuffle=True),
    "a generator": lambda: (pair for pair in batches()),
    "keywords": lambda: [{"x": X}],
    "no labels": lambda: [(X, None)],
    "labels that are no tensor": lambda: [(X, [f"class {y}" for y in Y])],
    "inference mode": without_gradients,
    "inputs that need gradients": lambda: [(X.clone().requires_grad_(), Y)],
    "an empty batch among others": lambda: [(X[:0], Y[:0]), (X, Y)],
    "three parts": lambda: [(X, Y, torch.arange(64))],
}
ONE_LINE = {
    "dict batches": (lambda: [{"image": X, "label": Y}], "[(b['image'], b['label']) for b in load"),
    "numpy": (lambda: [(X.numpy(), Y.numpy())], "torch.as_tensor(x), torch.as_tensor(y)"),
    "an array": (lambda: X.numpy(), "torch.as_tensor(array)"),
    "a data set": (lambda: DATA, "DataLoader(dataset, batch_size=32, shuffle=True)"),
    "a path": (lambda: "photos", "DataLoader(ImageFolder('photos', transform)"),
    "a Path": (lambda: Path("photos"), "DataLoader(ImageFolder('photos', transform)"),
    "a single batch of keywords": (lambda: {"x": X}, "[batch]"),
    "single images": (lambda: list(X), "torch.stack(list(loader))"),
    "single images and labels": (lambda: list(zip(X, Y, strict=True)), "DataLoader(dataset"),
    "lists of images": (lambda: [list(X[:8])], "[torch.stack(images) for images in loader]"),
    "lists of images, labels": (lambda: [(list(X[:8]), Y[:8])], "[(torch.stack(x), y) for x, y"),
    "mixed sizes": (lambda: [([X[0], X[1, :, 1:], X[2]], Y[:3])], "transforms.Resize((224, 224))"),
    "bytes": (lambda: batches(lambda x: x.byte()), "[(x.to(torch.float32) / 255, y) for x, y"),
    "doubles": (lambda: batches(torch.Tensor.double), "[(x.to(torch.float32), y) for x, y in loa"),
    "channels last": (lambda: batches(lambda x: x.movedim(1, -1)), "x.permute(0, 3, 1, 2)"),
    "grey": (lambda: batches(lambda x: x[:, :1]), "x.expand(-1, 3, -1, -1)"),
    "not a number": (lambda: batches(lambda x: x * torch.nan), "batch 0 holds NaN or infinity"),
    "labels of another batch": (lambda: [(X, Y[:9])], "as many of everything in a batch"),
    "a number": (lambda: 3, "batches to iterate over"),
    "text": (lambda: ["cat.png", "dog.png"], "tensors as inputs"),
    "nothing": (list, "it may have been used up: pass a loader"),
    "a used-up generator": (used_up, "it may have been used up: pass a loader"),
    "one class": (lambda: [(X, torch.ones_like(Y))], "calibration holds one class"),
    "sorted": (lambda: [(X, Y.sort().values)], "calibration is sorted by class"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_batches_as_people_have_them_are_used(name, net):
    found = mipp.prune(net, RIGHT[name](), "ratio:0.5")
    expected = mipp.prune(net, [X], "ratio:0.5")
    for group, kept in expected.selection.kept.items():
        if "default" not in name:  # which shuffles
            assert found.selection.kept[group].tolist() == kept.tolist()


@pytest.mark.parametrize("name", ONE_LINE)
def test_batches_that_do_not_fit_are_refused_in_one_clear_line(name, net):
    build, line = ONE_LINE[name]
    with pytest.raises(DataError, match=re.escape(line)):
        mipp.prune(net, build(), "ratio:0.5")


def test_empty_batches_are_given_up_only_where_they_follow_each_other(net):
    empty = [(X[:0], Y[:0])] * (EMPTY - 1)
    found = [x for x, _ in checked(net, [*empty, *batches(), *empty, *batches()])]
    assert torch.equal(torch.cat(found), torch.cat([X, X]))
    with pytest.raises(DataError, match=f"{EMPTY} batches without any"):
        list(checked(net, [*batches(), *empty, *empty]))


def test_other_channel_counts_are_refused_with_what_forward_said(net):
    with pytest.raises(ModelError, match="to have 3 channels"):
        mipp.prune(net, [X[:, :2]], "ratio:0.5")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.Tensor.float, "classes as labels"),
        (lambda y: y + 3, "labels from 0 to 4, got 3 to 7"),
    ],
)
def test_labels_that_cross_entropy_does_not_take_are_refused(labels, said, net):
    loader = batches(labels=labels)
    with pytest.raises(DataError, match=said):
        mipp.prune(net, loader, "ratio:0.5", method="taylor")
    assert mipp.prune(net, loader, "ratio:0.5").report.macs  # which needs none


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_networks_in_a_wrapper_are_pruned_as_what_they_hold(net):
    expected = mipp.prune(net, [X], "ratio:0.5").selection
    for wrapped in (torch.compile(net), nn.DataParallel(net), torch.compile(nn.DataParallel(net))):
        found = mipp.prune(wrapped, [X], "ratio:0.5")
        assert type(found.model) is Net
        assert found.selection.counts() == expected.counts()


def masked():
    model = Net()
    masks.l1_unstructured(model.conv, "weight", 0.5)
    return model


def quantised():
    return nn.Sequential(torch.ao.nn.quantized.ReLU6(), nn.Linear(3, 3))


REFUSED = {
    "scripted": (lambda: torch.jit.script(Net()), "scripted or traced; pass the module"),
    "masked": (masked, "call torch.nn.utils.prune.remove(module, 'weight') on it first"),
    "quantised": (quantised, "prune the network in floating point first"),
    "no module": (lambda: torch.relu, "an instance of torch.nn.Module"),
}


@pytest.mark.filterwarnings("ignore:.*torch.*:DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_are_no_plain_modules_are_refused_with_what_to_do_first(name):
    build, said = REFUSED[name]
    with pytest.raises(ModelError, match=re.escape(said)):
        mipp.prune(build(), [X], "ratio:0.5")


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


class Tokens(nn.Module):
    """Whole numbers and a mask go in, a data class comes out."""

    def __init__(self):
        super().__init__()
        self.words, self.a, self.b = nn.Embedding(20, 8), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, ids, mask):
        x = self.words(ids) * mask[..., None]
        x = self.a(x.mean(1)).relu()
        return Output(self.b(x), self.b(x) * 2)


def test_whole_numbers_masks_and_data_classes_go_all_the_way(tmp_path):
    ids = torch.randint(20, (64, 6), generator=GENERATOR)
    inputs = {"ids": ids, "mask": ids > 3}
    found = mipp.prune(Tokens().eval(), [inputs], "ratio:0.5")
    assert found.selection.counts()["a"] < 16
    path, shape = tmp_path / "network.safetensors", shape_of(inputs)
    save_checkpoint(path, Checkpoint(found.model, None, found.selection, shape))
    read = load_checkpoint(path, build=Tokens)
    assert read.shape == shape
    assert torch.equal(call(read.model.eval(), inputs).logits, call(found.model, inputs).logits)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.bool, torch.uint8])
def test_zeros_of_a_shape_have_the_kind_of_what_is_not_real(kind):
    inputs = (torch.ones(2, 5, dtype=kind), torch.ones(2, 3, dtype=torch.float64))
    first, second = zeros(shape_of(inputs), dtype=torch.float16)
    assert (first.dtype, first.shape) == (kind, (1, 5))
    assert (second.dtype, second.shape) == (torch.float16, (1, 3))


def _mend(build):
    """The last part of a refusal: the line to write, or what to do."""
    with torch.random.fork_rng(), pytest.raises(DataError) as caught:
        mipp.prune(Net().eval(), build(), "ratio:0.5")
    text = str(caught.value).replace("\n", " ")
    _, written, line = text.rpartition("write: ")
    return f"`{line}`" if written else text.rpartition("; ")[2].rstrip(".")


def test_page_lists_what_is_taken_and_what_is_to_be_written_for_the_rest():
    page = (Path(__file__).parents[2] / "docs/batches.md").read_text()
    refused = [f"| {name} | {_mend(build)} |" for name, (build, _) in ONE_LINE.items()]
    expected = [*(f"| {name} | taken |" for name in RIGHT), *refused]
    assert [row for row in page.splitlines() if row.startswith("| ")][1:] == expected
