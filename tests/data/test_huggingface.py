"""Sets of the package `datasets` in a folder, and what may be wrong with one."""

import importlib.util
import json

import pyarrow as pa
import pytest
import torch
from PIL import Image
from tiny_sets import pictures

from mipp.config import DataConfig
from mipp.data import huggingface, load_data
from mipp.errors import DataError

datasets = pytest.importorskip("datasets")
PIXELS = pictures(20)
NAMES = ["ant", "bee", "cow"]


@pytest.fixture(autouse=True, scope="module")
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def part_of(numbers, label="label", image="image", kind=None, labels=None):
    features = {image: datasets.Image(), label: kind or datasets.ClassLabel(names=NAMES)}
    content = {
        image: [Image.fromarray(PIXELS[n]) for n in numbers],
        label: [n % 3 for n in numbers] if labels is None else labels,
    }
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def save(root, **parts):
    datasets.DatasetDict(parts).save_to_disk(str(root))
    return root


def load(root, **more):
    plain = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "calibration": 2, "validation": 0}
    return load_data(DataConfig(name="huggingface", root=str(root), **plain | more), seed=0)


@pytest.mark.parametrize("names", [("label", "image"), ("fine", "img")])
@pytest.mark.parametrize("test", ["test", "validation"])
def test_images_come_with_their_labels_from_any_number_of_processes(tmp_path, names, test):
    train = part_of(range(15), *names).shuffle(seed=1)  # rows in another order than on disk
    root = save(tmp_path / "set", train=train, **{test: part_of(range(15, 20), *names)})
    for workers in (0, 1):
        data = load(root, workers=workers)
        assert (data.class_names, data.shape, len(data.test)) == (tuple(NAMES), (3, 16, 16), 5)
        images, labels = (torch.cat(some) for some in zip(*data.train.batches(4), strict=True))
        known = {tuple(p.transpose(2, 0, 1).flatten()): n % 3 for n, p in enumerate(PIXELS[:15])}
        found = [known[tuple(i)] for i in images.round().to(torch.uint8).flatten(1).tolist()]
        assert found == labels.tolist()


def test_a_path_in_a_table_is_not_followed(tmp_path):
    root = save(tmp_path / "set", train=part_of(range(4)), test=part_of(range(4)))
    file = next((root / "test").glob("*.arrow"))
    Image.fromarray(PIXELS[0]).save(tmp_path / "secret.png")
    with pa.ipc.open_stream(file.read_bytes()) as stream:
        table = stream.read_all()
    lure = pa.array(
        [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 4, table["image"].type
    )
    with pa.ipc.new_stream(str(file), table.schema) as stream:
        stream.write_table(table.set_column(0, table.schema.field("image"), lure))
    with pytest.raises(DataError, match="it holds no bytes"):
        list(load(root).test.batches(2))


@pytest.mark.parametrize(
    ("train", "says"),
    [
        ({"kind": datasets.Value("int64")}, r"lacks the columns of an image set.\nExpected one of"),
        ({"labels": [0, -1, 1]}, r"has 1 labels that name no class.\nExpected 0 to 2, got -1"),
        ({"labels": [0, None, 1]}, r"has 1 labels that name no class.\nExpected 0 to 2, got None"),
    ],
)  # fmt: skip
def test_what_is_no_image_set_is_refused(tmp_path, train, says):
    root = save(tmp_path / "set", train=part_of(range(3), **train), test=part_of(range(3)))
    with pytest.raises(DataError, match=says):
        load(root)


def test_a_set_without_a_test_is_refused(tmp_path):
    root = save(tmp_path / "set", train=part_of(range(3)), extra=part_of(range(3)))
    with pytest.raises(DataError, match=r"lacks a part.\nExpected train and one .*got train, ex"):
        load(root)


@pytest.mark.parametrize("file", ["dataset_dict.json", "train/state.json", "train/data.arrow"])
def test_a_damaged_set_is_refused(tmp_path, file):
    root = save(tmp_path / "set", train=part_of(range(3)), test=part_of(range(3)))
    if file.endswith("arrow"):
        damaged = next((root / "train").glob("*.arrow"))
        damaged.write_bytes(damaged.read_bytes()[:200])
    else:
        (root / file).write_text(json.dumps(7))
    with pytest.raises(DataError, match=r"set cannot be read.\nExpected what DatasetDict.save_to"):
        load(root)


def test_the_package_is_an_extra(tmp_path, monkeypatch):
    root = save(tmp_path / "set", train=part_of(range(3)), test=part_of(range(3)))
    monkeypatch.setattr(huggingface.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"got none; run `pip install 'mipp-pruning\[datasets\]'`"):
        load(root)
    assert importlib.util
