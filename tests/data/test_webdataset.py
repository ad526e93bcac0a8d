"""Tar shards: every image with its label, in any order; what is wrong with them in words."""

import io
import tarfile

import numpy as np
import pytest
import torch
from tiny_sets import encode, pictures

from mipp.config import DataConfig
from mipp.data import load_data
from mipp.errors import DataError

PIXELS = pictures(20)


def add(tar, name, content, **header):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in header.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


def sample(number, label=None):
    """Members of a sample: name and content."""
    text = str(number % 3 if label is None else label).encode()
    return [(f"images/{number:04}.png", encode(PIXELS[number])), (f"images/{number:04}.cls", text)]


def write(path, members, mode="w", **header):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            add(tar, name, content, **header)
    return path


def members(*numbers):
    return [member for number in numbers for member in sample(number)]


@pytest.fixture
def shards(tmp_path):
    """8 and 7 training images in two shards and 5 of the test, of 3 classes."""
    root = tmp_path / "sets" / "shards"
    root.parent.mkdir()
    write(root / "train-000.tar", members(*range(8)))
    write(root / "train-001.tar", members(*range(8, 15)))
    write(root / "val-000.tar", members(*range(15, 20)))
    return root


def load(root, **more):
    plain = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "calibration": 2, "validation": 0}
    return load_data(DataConfig(name="webdataset", root=str(root), **plain | more), seed=0)


def test_images_come_with_their_labels_from_any_number_of_processes(shards):
    data = load(shards)
    assert (len(data.train), len(data.test), data.shape) == (15, 5, (3, 16, 16))
    assert data.class_names == ("0", "1", "2")
    for workers in (0, 1):
        train = load(shards, workers=workers).train
        batches = list(train.batches(4, generator=torch.Generator().manual_seed(1)))
        order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
        rows = train.indices[order]
        wanted = torch.from_numpy(PIXELS[rows.numpy()].transpose(0, 3, 1, 2)).float()
        torch.testing.assert_close(torch.cat([images for images, _ in batches]), wanted)
        assert torch.equal(torch.cat([labels for _, labels in batches]), rows % 3)


def test_classes_may_have_names(shards):
    (shards / "classes.txt").write_text("ant\nbee\ncow\ndog\n")
    assert load(shards).class_names == ("ant", "bee", "cow", "dog")


def test_another_shard_or_member_is_another_set(shards):
    before = load(shards).train.fingerprint
    assert load(shards).train.fingerprint == before
    write(shards / "train-001.tar", members(*range(8, 14), 0))
    assert load(shards).train.fingerprint != before


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([("0.png", encode(PIXELS[0]))], r"sample '0' of shard \S*train-002.tar is no image with"),
        ([("0.cls", b"1")], r"Expected one image \(.*got cls; write"),
        ([("0.png", b""), ("0.jpg", b""), ("0.cls", b"1")], r"got png, jpg, cls"),
        ([("0.png", b""), ("0.cls", b"one")], r"label that names no class.\nExpected a whole numb"),
        ([("0.png", b""), ("0.cls", b"-1")], r"Expected a whole number in text, got b'-1'"),
        ([("0.png", b""), ("0.cls", b"3" * 400)], r"names no class"),
        ([("0.png", b""), ("0.cls", b"99999999999999999999")], r"Expected 0 to 20, got 9{20}"),
    ],
)  # fmt: skip
def test_a_sample_that_is_none_is_refused(shards, wrong, says):
    write(shards / "train-002.tar", wrong)
    with pytest.raises(DataError, match="(?s)" + says):
        load(shards)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_member_that_leads_elsewhere_is_refused(shards, kind):
    write(shards / "train-002.tar", [("0.png", b"")], type=kind, linkname="/etc/passwd")
    with pytest.raises(DataError, match=r"'0.png' that is no whole file.*\n.*got a link, a device"):
        load(shards)


def damage(content, how):
    header = content.index(b"images/0010.png") if content else 0
    return {
        "cut in a member": content[:700],
        "cut in a header": content[:-10240] + content[:100],
        "a header overwritten": content[:header] + b"x" * 512 + content[header + 512 :],
        "without an end": content.rstrip(b"\0") + bytes(-len(content.rstrip(b"\0")) % 512),
        "empty": b"",
        "no tar": b"<html>" * 1000,
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "cut in a member",
        "cut in a header",
        "a header overwritten",
        "without an end",
        "empty",
        "no tar",
    ],
)
def test_a_damaged_shard_is_refused(shards, how):
    shard = shards / "train-001.tar"
    shard.write_bytes(damage(shard.read_bytes(), how))
    with pytest.raises(DataError, match=r"shard \S*train-001.tar (cannot be read|has the member)"):
        load(shards)


def test_a_compressed_shard_is_refused(shards):
    write(shards / "train-002.tar", members(1), mode="w:gz")
    with pytest.raises(DataError, match=r"cannot be read.\nExpected a tar file that is not compr"):
        load(shards)


def test_an_image_that_cannot_be_decoded_is_named(shards):
    write(shards / "test-000.tar", [("a/7.png", b"none"), ("a/7.cls", b"0")])
    with pytest.raises(DataError, match=r"sample 'a/7' of shard \S*test-000.tar cannot be decoded"):
        list(load(shards).test.batches(2))


def test_names_of_classes_are_different(shards):
    (shards / "classes.txt").write_text("ant\nbee\nant\n")
    with pytest.raises(DataError, match=r"classes.txt names a class twice"):
        load(shards)
    (shards / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(DataError, match=r"Expected 0 to 1, got 2"):
        load(shards)


def test_a_balanced_sample_has_as_many_of_each_class_and_grows(shards):
    few, more = (load(shards, calibration=n, calibration_sample="balanced") for n in (6, 11))
    assert few.calibration.labels.bincount().tolist() == [2, 2, 2]
    assert sorted(more.calibration.labels.bincount().tolist()) == [3, 4, 4]
    assert torch.equal(more.calibration.indices[:6], few.calibration.indices)
    assert {*few.calibration.indices.tolist()} <= {*few.train.indices.tolist()}
    assert np.unique(more.calibration.indices).size == 11
