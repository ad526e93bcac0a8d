"""Parquet image sets."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_sets import encode, pictures, resized_and_cropped, write_parquet

from mipp.config import DataConfig
from mipp.data import decode, load_data
from mipp.errors import DataError

RAW = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def tiny(root, **changes):
    return DataConfig(name="parquet", root=str(root), **{"calibration": 8, **changes})


def test_pixels_and_labels_come_through_in_the_order_of_the_split(parquet_set):
    root, pixels = parquet_set
    train = load_data(tiny(root, **RAW), seed=0).train
    images, labels = next(train.batches(64))
    assert torch.equal(labels, train.indices // 10)
    expected = pixels[train.indices].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(images * 255, expected, atol=1e-4)


def test_class_names_come_from_the_schema(parquet_set):
    data = load_data(tiny(parquet_set[0]), seed=0)
    assert (data.classes, data.class_names) == (4, ("ant", "bee", "cow", "dog"))


def test_class_names_come_from_the_metadata_of_public_hubs(parquet_set):
    root, pixels = parquet_set
    hub = {"info": {"features": {"label": {"names": ["a", "b", "c", "d"]}}}}
    labels = np.repeat(range(4), 10)
    metadata = {"huggingface": json.dumps(hub)}
    write_parquet(root / "train.parquet", pixels, labels, metadata=metadata)
    assert load_data(tiny(root), seed=0).class_names == ("a", "b", "c", "d")


def test_classes_without_names_are_numbered(parquet_set):
    root, pixels = parquet_set
    write_parquet(root / "train.parquet", pixels, np.repeat(range(4), 10))
    assert load_data(tiny(root), seed=0).class_names == ("0", "1", "2", "3")


def test_only_the_images_of_a_split_are_decoded_and_only_once(parquet_set, monkeypatch):
    decoded, plain = [], decode._decode
    monkeypatch.setattr(decode, "_decode", lambda e, c, s: decoded.append(e.name) or plain(e, c, s))
    calibration = load_data(tiny(parquet_set[0]), seed=0).calibration
    assert decoded == []
    for _ in range(2):
        list(calibration.batches(3))
    assert len(decoded) == len(set(decoded)) == 8


def test_set_is_found_as_the_one_sub_folder_of_the_data_folder(parquet_set, monkeypatch):
    monkeypatch.setenv("MIPP_DATA", str(parquet_set[0].parent))
    assert load_data(DataConfig(name="parquet", calibration=8), seed=0).classes == 4


def test_two_sub_folders_are_ambiguous(parquet_set, monkeypatch):
    root, pixels = parquet_set
    other = root.parent / "second"
    other.mkdir()
    for part in ("train", "test"):
        write_parquet(other / f"{part}.parquet", pixels, [0] * 40)
    monkeypatch.setenv("MIPP_DATA", str(root.parent))
    with pytest.raises(DataError, match=r"ambiguous.*\n.*got second, tiny-parquet.\nSet data.root"):
        load_data(DataConfig(name="parquet"), seed=0)


def test_images_of_other_sizes_are_scaled_and_cropped_to_the_centre(tmp_path):
    wide = pictures(4, size=48)[:, :16]
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}.parquet", wide, [0, 1, 0, 1])
    config = tiny(tmp_path, calibration=2, size=8, **RAW)
    images, _ = next(load_data(config, seed=0).test.batches(4))
    expected = np.stack([resized_and_cropped(image, 8) for image in wide])
    np.testing.assert_allclose(images * 255, expected, atol=1)


def test_grey_set_keeps_one_channel(tmp_path):
    for part in ("train", "test"):
        pixels = pictures(6, channels=1)
        write_parquet(tmp_path / f"{part}.parquet", pixels, [0, 1] * 3)
    config = tiny(tmp_path, calibration=2)
    assert load_data(config, seed=0).shape == (1, 16, 16)
    images, _ = next(load_data(config, seed=0, channels=3).train.batches(4))
    assert torch.equal(images[:, 0], images[:, 2])


def test_colour_set_has_imagenet_normalisation(parquet_set):
    preparation = load_data(tiny(parquet_set[0]), seed=0).test.preparation
    assert preparation.mean == (0.485, 0.456, 0.406)
    assert preparation.std == (0.229, 0.224, 0.225)


def test_another_file_with_the_same_labels_changes_the_fingerprint(parquet_set):
    root, pixels = parquet_set
    before = load_data(tiny(root), seed=0).train.fingerprint
    pixels[:] = 0
    metadata = {"class_names": "ant,bee,cow,dog"}
    write_parquet(root / "train.parquet", pixels, np.repeat(range(4), 10), metadata=metadata)
    assert load_data(tiny(root), seed=0).train.fingerprint != before


def write_rows(path, images, labels):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [None if blob is None else {"bytes": blob, "path": ""} for blob in images]
    pq.write_table(pa.table({"image": pa.array(rows, kind), "label": labels}), path)


@pytest.mark.parametrize(
    ("blob", "got"),
    [(b"no image", "cannot identify"), (None, "no bytes"), ("half", "truncated|Truncated")],
    ids=["garbage", "null", "cut"],
)
def test_image_that_cannot_be_decoded_is_named(parquet_set, blob, got):
    root, _ = parquet_set
    whole = encode(pictures(1)[0])
    broken = whole[: len(whole) // 2] if blob == "half" else blob
    write_rows(root / "test.parquet", [whole, whole, broken], [0, 1, 2])
    test = load_data(tiny(root), seed=0).test
    with pytest.raises(DataError, match=rf"test\.parquet row 2 cannot be decoded.\n.*({got})"):
        list(test.batches(3))


@pytest.mark.parametrize("label", [-1, 4, None])
def test_label_that_names_no_class_is_refused(parquet_set, label):
    root, _ = parquet_set
    write_rows(
        root / "test.parquet", [encode(pictures(1)[0])] * 2, pa.array([0, label], pa.int64())
    )
    with pytest.raises(
        DataError, match=r"1 labels that name no class.\nExpected 0 to 3, got (-1|4)"
    ):
        load_data(tiny(root), seed=0)


def test_missing_columns_are_refused_with_those_found(parquet_set):
    root, _ = parquet_set
    pq.write_table(pa.table({"img": [b""], "fine_label": [0]}), root / "train.parquet")
    with pytest.raises(DataError, match=r"got img: binary, fine_label: int64"):
        load_data(tiny(root), seed=0)


def test_file_that_is_no_parquet_is_refused(parquet_set):
    root, _ = parquet_set
    (root / "train.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataError, match=r"train\.parquet cannot be read.\nExpected a Parquet file"):
        load_data(tiny(root), seed=0)


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_part_is_refused(parquet_set, part):
    root, _ = parquet_set
    write_rows(root / f"{part}.parquet", [], pa.array([], pa.int64()))
    with pytest.raises(DataError, match=r"has no (training|test) images"):
        load_data(tiny(root), seed=0)


def test_real_cifar_calibration_is_balanced_and_quick_to_read(real_data):
    config = DataConfig(name="parquet", root=str(real_data / "cifar10-jpeg"), calibration=2048)
    data = load_data(config, seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (45_000, 5_000, 10_000)
    counts = data.calibration.labels.bincount()
    assert counts.min() > 150  # 205 of each expected, deviation 14
    images, _ = next(data.calibration.batches(2048))
    assert images.shape == (2048, 3, 32, 32)
    assert images.mean().abs() < 0.2


def test_a_string_in_place_of_bytes_opens_no_file(parquet_set, tmp_path):
    root, _ = parquet_set
    secret = tmp_path / "secret.png"
    secret.write_bytes(encode(pictures(1)[0]))
    rows = pa.array([{"bytes": str(secret)}], pa.struct([("bytes", pa.string())]))
    table = pa.table({"image": rows, "label": pa.array([0], pa.int64())})
    pq.write_table(table, root / "train.parquet")
    with pytest.raises(DataError, match=r"lacks the columns(.|\n)*struct<bytes: string>"):
        load_data(tiny(root), seed=0)


@pytest.mark.parametrize("label", [2**40, 200])
def test_labels_beyond_the_images_are_refused_before_classes_are_made(parquet_set, label):
    root, pixels = parquet_set
    write_parquet(root / "train.parquet", pixels, [label, *[0] * 39])
    with pytest.raises(DataError, match=rf"has the label {label}.\nExpected labels below its 52"):
        load_data(tiny(root), seed=0)


def test_labels_that_64_bits_do_not_hold_are_refused(parquet_set):
    root, pixels = parquet_set
    write_parquet(root / "train.parquet", pixels[:1], [0])
    table = pq.read_table(root / "train.parquet")
    labels = pa.array([2**64 - 1], pa.uint64())
    pq.write_table(table.set_column(1, "label", labels), root / "train.parquet")
    with pytest.raises(DataError, match="labels of 64 bits at most"):
        load_data(tiny(root), seed=0)


@pytest.mark.parametrize(
    "hub", ["{", "[]", "null", '{"info": 3}', '{"info": {"features": {"label": {"names": [1]}}}}']
)
def test_class_names_of_another_form_count_as_none(parquet_set, hub):
    root, pixels = parquet_set
    write_parquet(
        root / "train.parquet", pixels, np.repeat(range(4), 10), metadata={"huggingface": hub}
    )
    assert load_data(tiny(root), seed=0).class_names == ("0", "1", "2", "3")


# More than fits


@pytest.fixture
def many_files(tmp_path):
    """40 training images in four files of two row groups each, 12 of validation in one."""
    root = tmp_path / "sets" / "many"
    root.mkdir(parents=True)
    pixels = pictures(40)
    for number in range(4):
        rows = slice(10 * number, 10 * number + 10)
        file = root / f"train-0000{number}-of-00004.parquet"
        write_parquet(file, pixels[rows], [number] * 10, row_group_size=5)
    write_parquet(
        root / "validation-00000-of-00001.parquet", pictures(12, seed=1), [0, 1, 2, 3] * 3
    )
    return root, pixels


def epoch(split, seed=3, batch_size=6):
    batches = split.batches(batch_size, generator=torch.Generator().manual_seed(seed))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return 255 * images, labels


def test_files_of_a_part_are_one_table(many_files):
    root, pixels = many_files
    config = DataConfig(name="parquet", root=str(root), calibration=8, validation=0, **RAW)
    data = load_data(config, seed=0)
    assert (len(data.train), len(data.test), data.classes) == (40, 12, 4)
    images, labels = epoch(data.train)
    order = data.train.indices[torch.randperm(40, generator=torch.Generator().manual_seed(3))]
    wanted = torch.from_numpy(pixels[order.numpy()].transpose(0, 3, 1, 2)).float()
    torch.testing.assert_close(images, wanted, atol=1e-3, rtol=0)
    assert torch.equal(labels, order // 10)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_table_that_memory_does_not_hold_is_read_by_few_groups_at_a_time(
    many_files, monkeypatch, workers
):
    root, pixels = many_files
    monkeypatch.setattr("mipp.data.split.MOST_KEPT", 1000)
    monkeypatch.setattr("mipp.data.blocks.WINDOW", 10)
    monkeypatch.setattr("mipp.data.parquet.KEPT", 12_000)  # about two groups
    config = DataConfig(
        name="parquet", root=str(root), calibration=8, validation=0, workers=workers, **RAW
    )
    train = load_data(config, seed=0).train
    opened = count_groups(monkeypatch)
    images, labels = epoch(train)
    assert workers or len(opened) <= 8 + 4  # where windows meet in a batch, groups are read twice
    shown = {tuple(p.transpose(2, 0, 1).flatten()): n for n, p in enumerate(pixels)}
    rows = [shown[tuple(i)] for i in images.round().to(torch.uint8).flatten(1).tolist()]
    assert sorted(rows) == list(range(40))
    assert [row // 10 for row in rows] == labels.tolist()
    windows = [{row // 5 for row in rows[at : at + 10]} for at in range(0, 40, 10)]
    assert all(len(window) == 2 for window in windows)
    assert rows != sorted(rows)
    assert torch.equal(epoch(train)[0], images)
    assert not torch.equal(epoch(train, seed=4)[0], images)


def test_what_is_validated_is_read_in_the_order_of_the_table(many_files, monkeypatch):
    root, _ = many_files
    config = DataConfig(name="parquet", root=str(root), calibration=8, validation=0.5, **RAW)
    before = load_data(config, seed=0).validation.indices
    monkeypatch.setattr("mipp.data.split.MOST_KEPT", 1000)
    after = load_data(config, seed=0).validation.indices
    assert after.tolist() == sorted(before.tolist()) != before.tolist()


def count_groups(monkeypatch):
    """Row groups as they are read in this process."""
    read, groups = pq.ParquetFile.read_row_group, []

    def note(self, group, **options):
        groups.append(group)
        return read(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", note)
    return groups
