"""Parquet sets that someone else made: refused in words, and before room for them is made."""

from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mipp.config import DataConfig
from mipp.data import load_data
from mipp.data.own_set import image_set_of
from mipp.errors import DataError

BYTES = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LABELS = [0, 1, 2, 0, 1, 2]


def image(value):
    file = BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": "/etc/passwd"}


IMAGES = pa.array([image(9 * number) for number in range(6)], BYTES)


def table(labels=LABELS, images=IMAGES, more=(), names=("image", "label"), **metadata):
    made = pa.Table.from_arrays([images, pa.array(labels), *more], names=list(names))
    return made.replace_schema_metadata(metadata)


def write(folder, train, **options):
    folder.mkdir(exist_ok=True)
    pq.write_table(train, folder / "train.parquet", **options)
    pq.write_table(table(), folder / "test.parquet")
    return folder


def classes_of(folder):
    """Names of the classes; all images are read."""
    config = DataConfig(name="parquet", root=str(folder), calibration=2, validation=0)
    data = load_data(config, seed=0)
    assert [sum(len(y) for _, y in part.batches(4)) for part in (data.train, data.test)] == [6, 6]
    return data.class_names


FORMS_OF_HUB = [
    "[", "[]", "null", "1", '{"info": 1}', '{"info": {"features": []}}',
    '{"info": {"features": {"label": {"names": "abc"}}}}',
    '{"info": {"features": {"label": {"names": [1, 2, 3]}}}}',
    '{"info": {"features": {"label": {"names": []}}}}',
    "[" * 100_000, b"\xff\xfe",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS_OF_HUB, ids=lambda form: str(form)[:40])
def test_metadata_of_the_hub_in_another_form_names_nothing(form, tmp_path):
    assert classes_of(write(tmp_path, table(huggingface=form))) == ("0", "1", "2")


def test_names_in_another_encoding_stay_apart(tmp_path):
    names = classes_of(write(tmp_path, table(class_names=b"a,\xff,c")))
    assert names == ("a", "\N{REPLACEMENT CHARACTER}", "c")


SAME_NAMES = {
    "own": {"class_names": "a,b,a"},
    "empty": {"class_names": "a,,c"},
    "of the hub": {"huggingface": '{"info": {"features": {"label": {"names": ["a", "b", "a"]}}}}'},
}


@pytest.mark.parametrize("kind", SAME_NAMES)
def test_classes_of_one_name_are_refused(kind, tmp_path):
    with pytest.raises(DataError, match=r"names its classes 'a', .*\nExpected different .*, got"):
        classes_of(write(tmp_path, table(**SAME_NAMES[kind])))


REFUSED = {
    "labels twice": table(names=("image", "label", "label"), more=[pa.array(LABELS)]),
    "images twice": table(names=("image", "label", "image"), more=[IMAGES]),
    "labels of parts": table(labels=[0.5] * 6),
    "lists for labels": table(labels=[[1]] * 6),
    "labels beyond 64 bits": table(labels=pa.array([2**63] * 6, pa.uint64())),
    "labels below zero": table(labels=[-1, *LABELS[1:]]),
    "labels beyond the images": table(labels=[2**40, *LABELS[1:]]),
    "labels beyond the names": table(class_names="a,b"),
    "no images": table(images=pa.nulls(6, BYTES)),
    "paths alone": table(images=pa.array([{"bytes": None, "path": "/etc/passwd"}] * 6, BYTES)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_table_of_another_kind_is_refused(kind, tmp_path):
    with pytest.raises(DataError, match=r"\nExpected .*, got"):
        classes_of(write(tmp_path, REFUSED[kind]))


@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd"])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.9])
def test_damage_to_a_table_with_checksums_is_refused(codec, at, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 24, 24, 3), np.uint8)
    images = []
    for pixels in noise:
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": ""})
    noisy = table(images=pa.array(images, BYTES))
    checked = {"write_page_checksum": True, "use_dictionary": False}  # of dictionaries none is
    write(tmp_path, noisy, compression=codec, **checked)
    file = tmp_path / "train.parquet"
    content = bytearray(file.read_bytes())
    column = pq.read_metadata(file).row_group(0).column(0)  # what follows may be statistics alone
    start = 4 + int(at * (column.total_compressed_size - 40))
    content[start : start + 40] = bytes(byte ^ 0xFF for byte in content[start : start + 40])
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"\nExpected .*, got"):
        classes_of(tmp_path)


@pytest.mark.parametrize("what", ["labels", "images"])
def test_table_that_unpacks_to_more_than_the_memory_is_refused(what, tmp_path, monkeypatch):
    """A megabyte of zeros is a few hundred bytes of the file; the limit is the free memory."""
    many = 2000 if what == "labels" else 6
    images = pa.nulls(many, BYTES)
    if what == "images":
        images = pa.array([{"bytes": bytes(2**20), "path": ""}] * many, BYTES)
    write(tmp_path, table(labels=[0, 1] * (many // 2), images=images), compression="zstd")
    assert (tmp_path / "train.parquet").stat().st_size < 20_000
    monkeypatch.setattr("mipp.data.room.free_bytes", lambda device: 20_000)
    with pytest.raises(
        DataError, match=rf"{what[:-1]}.*\nExpected at most the 20,000 bytes .*, got"
    ):
        classes_of(tmp_path)


@pytest.mark.parametrize("label", [2**40, 7])
def test_own_set_has_no_more_classes_than_images(label):
    pixels = np.zeros((8, 8), np.uint8)
    part = [(pixels, 0), (pixels, label)]
    with pytest.raises(
        DataError, match=rf"label {label}.\nExpected labels below .* 2, got {label}"
    ):
        image_set_of("mine:load", (part, part[:1]))
