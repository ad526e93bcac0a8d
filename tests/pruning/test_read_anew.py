"""Large calibration data is read anew for every pass, and gives what held data gives."""

import pytest
import torch
from oracles import build_small, images_for
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mipp
from mipp.errors import DataError
from mipp.pruning import read_anew
from mipp.pruning.calibration import Held
from mipp.pruning.read_anew import ReadAnew

IMAGES = 64
LABELS = torch.arange(IMAGES) % 10


class Noisy(Dataset):
    """Images with noise of their own from some image on, which differs from read to read."""

    def __init__(self, first=IMAGES):
        self.first, self.reads = first, 0

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        self.reads += 1
        image = images_for("lenet5", IMAGES)[index]
        noise = torch.randn(image.shape) if index >= self.first else 0.0
        return image + noise, LABELS[index]


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(read_anew, "LARGE", 0)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("method", ["mipp", "taylor"])
def test_images_of_a_loader_read_anew_give_what_held_ones_give(method, shuffle, large):
    model, data = build_small("lenet5"), Noisy()
    pruner = mipp.Pruner(model, DataLoader(data, 24, shuffle=shuffle), images=56)
    assert type(pruner.calibration) is ReadAnew
    held = mipp.Pruner(model, list(pruner.calibration.labelled()))
    assert held.calibration.count() == pruner.calibration.count() == 56
    cuts = []
    for one in (pruner, held):
        before = data.reads
        cuts.append(one.cut(one.plan("macs:0.5", one.rank(method))))
        assert (data.reads > before) == (one is pruner)
    assert cuts[0].selection.to_json() == cuts[1].selection.to_json()
    states = [cut.model.state_dict() for cut in cuts]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_small_augmented_and_other_loaders_are_held(large, monkeypatch):
    model, pairs = build_small("lenet5"), TensorDataset(images_for("lenet5", IMAGES), LABELS)
    loaders = [
        DataLoader(Noisy(first=0), 32),
        DataLoader(pairs, batch_size=None, sampler=[range(32)]),
        (pair for pair in DataLoader(pairs, 32)),
        list(DataLoader(pairs, 32)),
    ]
    assert {type(mipp.Pruner(model, loader).calibration) for loader in loaders} == {Held}
    monkeypatch.setattr(read_anew, "LARGE", images_for("lenet5", IMAGES).nbytes)
    assert type(mipp.Pruner(model, DataLoader(pairs, 32)).calibration) is Held


@pytest.mark.parametrize("own", [True, False])
def test_order_of_a_held_loader_is_that_of_its_own_next_pass(own, seed):
    model, pairs = build_small("lenet5"), TensorDataset(images_for("lenet5", IMAGES), LABELS)
    generator = torch.Generator() if own else torch.default_generator
    loader = DataLoader(pairs, 32, shuffle=True, generator=generator if own else None)
    generator.manual_seed(seed)
    expected = torch.cat([x for x, _ in loader])
    generator.manual_seed(seed)
    held = mipp.Pruner(model, loader).calibration
    assert torch.equal(torch.cat(list(held.inputs())), expected)


def test_inputs_that_differ_later_on_are_refused(large):
    loader = DataLoader(Noisy(first=40), 32)
    pruner = mipp.Pruner(build_small("lenet5"), loader)
    with pytest.raises(
        DataError, match=r"(?s)other inputs in every pass.*at batch 1.*list\(loader\)"
    ):
        pruner.rank()


@pytest.mark.parametrize("labels", [LABELS * 0, LABELS.sort().values])
def test_sorted_labels_are_refused_as_of_held_inputs(labels, large):
    pairs = TensorDataset(images_for("lenet5", IMAGES), labels)
    with pytest.raises(DataError, match="calibration"):
        mipp.Pruner(build_small("lenet5"), DataLoader(pairs, 32))
