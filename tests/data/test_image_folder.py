"""Image folders in both layouts."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_sets import encode, pictures, resized_and_cropped, write_folder

from mipp.config import DataConfig
from mipp.data import load_data
from mipp.errors import DataError


def tiny(root, **changes):
    return DataConfig(name="image-folder", root=str(root), **{"calibration": 8, **changes})


RAW = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def test_pixels_and_labels_come_through_shuffled_in_batches(folder_set):
    root, pixels = folder_set
    train = load_data(tiny(root, **RAW), seed=0).train
    assert torch.equal(train.labels, train.indices // 10)
    expected = pixels[train.indices].transpose(0, 3, 1, 2)
    images = torch.cat([images for images, _ in train.batches(4)])
    np.testing.assert_allclose(images * 255, expected, atol=1e-4)


def test_classes_are_the_sorted_folder_names(folder_set):
    data = load_data(tiny(folder_set[0]), seed=0)
    assert (data.class_names, data.shape) == (("ant", "bee"), (3, 16, 16))
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4


def test_images_are_streamed(folder_set):
    assert load_data(tiny(folder_set[0]), seed=0).train.part.streams


def test_shorter_side_is_scaled_and_the_centre_cropped(folder_set):
    root, _ = folder_set
    tall = pictures(4, size=96)[:, :, :32]
    for row, image in enumerate(tall):
        (root / "val" / "ant" / f"{row:03}.png").write_bytes(encode(image))
    images, _ = next(load_data(tiny(root, size=8, **RAW), seed=0).test.batches(4))
    expected = np.stack([resized_and_cropped(image, 8) for image in tall])
    np.testing.assert_allclose(images * 255, expected, atol=1)


def test_images_of_many_sizes_have_224_pixels_unless_told(folder_set):
    root, _ = folder_set
    (root / "train" / "ant" / "000.png").write_bytes(encode(pictures(1, size=20)[0]))
    assert load_data(tiny(root), seed=0).shape == (3, 224, 224)
    assert load_data(tiny(root), seed=0, size=24).shape == (3, 24, 24)


def test_single_grey_image_in_a_colour_set_is_read_as_colour(folder_set):
    root, _ = folder_set
    (root / "val" / "ant" / "000.png").write_bytes(encode(pictures(1, channels=1)[0]))
    images, _ = next(load_data(tiny(root, **RAW), seed=0).test.batches(8))
    assert torch.equal(images[0, 0], images[0, 2])


def test_grey_folder_keeps_one_channel(tmp_path):
    for part in ("train", "val"):
        write_folder(tmp_path / part, ["ant", "bee"], 5, channels=1)
    assert load_data(tiny(tmp_path, calibration=4), seed=0).shape == (1, 16, 16)


def test_labelled_test_folder_wins_over_val(folder_set):
    root, _ = folder_set
    write_folder(root / "test", ["ant", "bee"], 3, seed=2)
    assert len(load_data(tiny(root), seed=0).test) == 6


def test_test_folder_without_classes_is_passed_over(folder_set):
    root, _ = folder_set
    write_folder(root / "test", ["images"], 3, seed=2)
    assert len(load_data(tiny(root), seed=0).test) == 8


def test_tiny_imagenet_layout_is_read_by_its_annotations(tmp_path):
    names = ["n01", "n02"]
    for row, image in enumerate(pictures(12)):
        path = tmp_path / "train" / names[row // 6] / "images" / f"{row}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    write_folder(tmp_path / "val", ["images"], 3)
    (tmp_path / "test" / "images").mkdir(parents=True)
    lines = [
        f"{row:03}.png\t{name}\t0\t0\t9\t9\n" for row, name in enumerate(["n02", "n01", "n02"])
    ]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    data = load_data(tiny(tmp_path, calibration=4), seed=0)
    assert data.test.labels.tolist() == [1, 0, 1]
    assert (data.class_names, len(data.train)) == (("n01", "n02"), 11)
    assert next(data.test.batches(3))[0].shape == (3, 3, 16, 16)


@pytest.fixture
def annotated(folder_set):
    root, _ = folder_set
    images = root / "test" / "images"
    images.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (images / name).write_bytes(encode(pictures(1)[0]))
    return root, root / "test" / "val_annotations.txt"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_blank_lines_and_marks_of_the_encoding_are_no_annotations(annotated, encoding):
    root, file = annotated
    file.write_text("\na.png\tbee\n\n  \nb.png\tant\n\n", encoding=encoding)
    assert load_data(tiny(root), seed=0).test.labels.tolist() == [1, 0]


@pytest.mark.parametrize("line", ["/etc/passwd\tbee", "../a.png\tbee", "a.png bee", "a.png"])
def test_annotations_that_name_no_image_of_the_folder_are_refused(annotated, line):
    root, file = annotated
    file.write_text(f"a.png\tbee\n{line}\n")
    with pytest.raises(DataError, match=r"val_annotations.txt line 2 names no image"):
        load_data(tiny(root), seed=0)


def test_annotations_in_another_encoding_are_refused(annotated):
    root, file = annotated
    file.write_text("a.png\tbee\n", encoding="utf-16")
    with pytest.raises(DataError, match="Expected text in UTF-8"):
        load_data(tiny(root), seed=0)


def test_test_class_that_training_lacks_is_refused(folder_set):
    root, _ = folder_set
    write_folder(root / "val", ["cow"], 1)
    with pytest.raises(DataError, match=r"val has the class 'cow', which train/ lacks"):
        load_data(tiny(root), seed=0)


def test_test_images_without_labels_are_refused(folder_set):
    root, _ = folder_set
    (root / "val").rename(root / "other")
    write_folder(root / "val", ["images"], 2)
    with pytest.raises(DataError, match="has no labelled test images"):
        load_data(tiny(root), seed=0)


def test_unreadable_file_is_named(folder_set):
    root, _ = folder_set
    (root / "val" / "bee" / "005.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"005\.png cannot be decoded"):
        list(load_data(tiny(root), seed=0).test.batches(3))


def test_moving_the_folder_keeps_the_fingerprint_and_renaming_a_file_changes_it(folder_set):
    root, _ = folder_set
    before = load_data(tiny(root), seed=0).train.fingerprint
    moved = root.rename(root.parent / "moved")
    assert load_data(tiny(moved), seed=0).train.fingerprint == before
    (moved / "train" / "ant" / "000.png").rename(moved / "train" / "ant" / "000a.png")
    assert load_data(tiny(moved), seed=0).train.fingerprint != before
