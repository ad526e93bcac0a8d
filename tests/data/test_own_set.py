"""Sets that people bring: what their images become, and what is refused in words."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from mipp.config import DataConfig
from mipp.data import DATA_SETS, ImageSet, load_data, register_data
from mipp.data.own_set import image_set_of
from mipp.errors import DataError

PIXELS = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8)
LABELS = [0, 1, 2, 0, 1, 2]


class Pictures(Dataset):
    classes = ("circle", "square", "star")

    def __init__(self, images, labels=LABELS):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


@pytest.fixture
def own_sets(monkeypatch):
    """The table, which forgets afterwards what a test adds."""
    monkeypatch.setattr(DATA_SETS, "_rows", dict(DATA_SETS._rows))


def read(part, size=8):
    return part.read(torch.arange(len(part.labels)), size, "")


COLOUR = np.stack([PIXELS, PIXELS[::-1], PIXELS // 2], axis=3)  # (n, h, w, c)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (PIXELS, PIXELS[:, None]),
        (PIXELS[..., None], PIXELS[:, None]),
        (PIXELS[:, None], PIXELS[:, None]),
        (torch.from_numpy(PIXELS), PIXELS[:, None]),
        (torch.from_numpy(PIXELS)[:, None].float() / 255, PIXELS[:, None]),
        ((PIXELS / 255).astype(np.float64), PIXELS[:, None]),
        ([Image.fromarray(image) for image in PIXELS], PIXELS[:, None]),
        (PIXELS > 100, (PIXELS > 100)[:, None] * 255),
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        ([Image.fromarray(image) for image in COLOUR], COLOUR.transpose(0, 3, 1, 2)),
    ],
)
def test_images_of_every_kind_become_the_same_bytes(images, expected):
    found = image_set_of("mine", (Pictures(images), Pictures(images[:3])))
    np.testing.assert_array_equal(read(found.train), expected)
    np.testing.assert_array_equal(read(found.test), expected[:3])
    assert (found.channels, found.size) == expected.shape[1:3]
    assert found.train.labels.tolist() == LABELS
    assert found.class_names == Pictures.classes


def test_classes_without_names_are_numbered():
    part = TensorDataset(torch.from_numpy(PIXELS), torch.tensor(LABELS))
    assert image_set_of("mine", [part, part]).class_names == ("0", "1", "2")


def test_normalisation_is_that_of_the_training_images():
    found = image_set_of("mine", (Pictures(COLOUR), Pictures(255 - COLOUR)))
    shares = COLOUR.astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, shares.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, shares.std((0, 1, 2)), rtol=1e-12)


def test_set_of_one_brightness_has_a_deviation_to_divide_by():
    flat = np.full((6, 8, 8), 7, dtype=np.uint8)
    assert image_set_of("mine", (Pictures(flat), Pictures(flat))).std == (1.0,)


def test_image_set_of_ours_is_taken_as_it_is():
    whole = image_set_of("mine", (Pictures(PIXELS), Pictures(PIXELS)))
    assert isinstance(whole, ImageSet)
    assert image_set_of("mine", whole) is whole


def test_fingerprint_knows_the_pixels(own_sets):
    images = PIXELS

    @register_data("pixels-mine")
    def load():
        return Pictures(images), Pictures(images)

    config = DataConfig(name="pixels-mine", calibration=3, validation=0, mean=(0,), std=(1,))
    first = load_data(config, seed=0).train.fingerprint
    images = PIXELS.copy()
    assert load_data(config, seed=0).train.fingerprint == first
    images = 255 - PIXELS
    assert load_data(config, seed=0).train.fingerprint != first


def test_address_names_a_set_whose_function_takes_what_it_likes(monkeypatch, tmp_path):
    (tmp_path / "set_taking.py").write_text(
        "import numpy as np\n"
        "def load(root, seed, limit=None):\n"
        "    rows = [(np.full((8, 8), seed, np.uint8), n % 2) for n in range(limit or 9)]\n"
        "    assert root == 'here'\n"
        "    return rows, rows\n"
    )
    monkeypatch.chdir(tmp_path)
    config = DataConfig(
        name="set_taking:load",
        root="here",
        limit=5,
        calibration=4,
        validation=0,
        mean=(0,),
        std=(1,),
    )
    data = load_data(config, seed=51)
    images, _ = next(data.train.batches(9))
    assert data.name == "set_taking:load"
    assert (len(data.train), data.classes) == (5, 2)
    torch.testing.assert_close(images, torch.full((5, 1, 8, 8), 51 / 255))


def test_registered_set_is_found_by_its_name(own_sets):
    @register_data("registered-mine")
    def load():
        return Pictures(PIXELS), Pictures(PIXELS)

    data = load_data(DataConfig(name="registered-mine", calibration=2, validation=0), seed=0)
    assert data.class_names == Pictures.classes


def test_function_that_needs_what_nobody_gives_is_refused():
    with pytest.raises(DataError, match=r"takes what it likes of config, name, root.*'folder'"):
        register_data("needy-mine")(lambda folder: None)


WHOLE = Pictures(PIXELS)


@pytest.mark.parametrize(
    ("brought", "what"),
    [
        (WHOLE, r"gives no images.\nExpected .*\(train, test\).*got a Pictures"),
        (None, "got a NoneType"),
        ((WHOLE, WHOLE, WHOLE), r"got \(Pictures, Pictures, Pictures\)"),
        ((WHOLE, iter(PIXELS)), "gives no images"),
        ((WHOLE, Pictures([])), r"'mine/test' has no images.\nExpected at least 1"),
        ((PIXELS, PIXELS), r"mine/train\[0\] has no label.\nExpected a pair"),
        ((Pictures(PIXELS, [0, 1, 2.5, 0, 1, 2]), WHOLE), r"train\[2\] has a label that is no cl"),
        ((Pictures(PIXELS, [0, 1, -1, 0, 1, 2]), WHOLE), r"train\[2\] has a label that is no cla"),
        ((Pictures(PIXELS, np.eye(6)), WHOLE), r"train\[0\] has a label that is no class"),
        ((WHOLE, Pictures(PIXELS, [0, 1, 3, 0, 1, 2])), r"has the label 3.\nExpected labels below"),
        ((Pictures(PIXELS[:, :, :6]), WHOLE), r"mine/train\[0\] has images of another shape"),
        (
            (Pictures([*PIXELS[:5], PIXELS[0, :4, :4]]), WHOLE),
            r"mine/train\[5\] has images of another shape.\nExpected \(1, 8, 8\), .*got \(1, 4, 4",
        ),
        ((WHOLE, Pictures(COLOUR)), r"mine/test has images .*\nExpected \(1, 8, 8\).*\(3, 8, 8\)"),
        ((Pictures(PIXELS.astype(np.int64)), WHOLE), "pixels that are no brightness.*\n.*int64"),
        ((Pictures(PIXELS / 255 - 0.5), WHOLE), "no brightness.*\n.*from -0.5.*data.mean"),
        ((Pictures(PIXELS * np.nan), WHOLE), "no brightness"),
        ((Pictures(np.zeros((6, 4))), WHOLE), "is no image"),
        ((Pictures(["a.png"] * 6), WHOLE), "is no image"),
    ],
)
def test_what_cannot_be_a_set_is_refused_with_the_place(brought, what):
    with pytest.raises(DataError, match=f"(?s){what}"):
        image_set_of("mine", brought)


def test_images_that_change_when_they_are_read_again_are_refused():
    class Restless(Pictures):
        def __getitem__(self, index):
            self.images = self.images + np.uint8(1)
            return super().__getitem__(index)

    with pytest.raises(DataError, match=r"another image each time.*\n.*data.augment"):
        image_set_of("mine", (Restless(PIXELS), WHOLE))
