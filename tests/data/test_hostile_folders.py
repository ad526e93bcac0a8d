"""Image folders that someone else made: no link leads out, nothing hangs, no class is another."""

import os
import shutil
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mipp.config import DataConfig
from mipp.data import load_data
from mipp.data.content import content_of
from mipp.errors import DataError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two classes of four images, in training and test."""
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "cache"))
    for part in ("train", "val"):
        for name in ("a", "b"):
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                write_image(folder / f"{number}.png")
    return tmp_path / "set"


def write_image(path, value=9):
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def images_of(root):
    """How many images training and test have, all of them read."""
    config = DataConfig(name="image-folder", root=str(root), calibration=2, validation=0)
    assert len(content_of(config)) == 64
    data = load_data(config, seed=0)
    return tuple(sum(len(y) for _, y in part.batches(4)) for part in (data.train, data.test))


REFUSED_CLASSES = {"of all": ".", "above all": "..", "of another": "a"}


@pytest.mark.parametrize("kind", REFUSED_CLASSES)
def test_class_folder_that_is_a_link_to_others_is_refused(kind, root):
    (root / "train/c").symlink_to(REFUSED_CLASSES[kind])
    with pytest.raises(
        DataError, match=r"class folder .*/c is a link to .*\nExpected .*, got .*; r"
    ):
        images_of(root)


def test_class_folder_that_is_a_link_to_its_own_images_is_taken(root):
    shutil.move(root / "train/b", root.parent / "elsewhere")
    (root / "train/b").symlink_to(root.parent / "elsewhere")
    assert images_of(root) == (8, 8)


IGNORED = {
    "a folder that leads back": lambda root: (root / "train/a/up").symlink_to(".."),
    "a link to itself": lambda root: (root / "train/x").symlink_to("x"),
    "a broken link": lambda root: (root / "train/a/x.txt").symlink_to("gone"),
    "a pipe": lambda root: os.mkfifo(root / "train/a/x.txt"),
    "a folder called as an image": lambda root: (root / "train/a/x.png").mkdir(),
}


@pytest.mark.parametrize("kind", IGNORED)
def test_what_is_no_image_changes_nothing(kind, root):
    IGNORED[kind](root)
    assert images_of(root) == (8, 8)


def test_name_in_no_encoding_is_read(root):
    shutil.copy(root / "train/a/0.png", os.path.join(os.fsencode(root / "train/a"), b"\xff.png"))
    assert images_of(root) == (9, 8)


def eps():
    """A page that Pillow has Ghostscript draw."""
    page = BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(page, "EPS")
    return page.getvalue()


def png_of(width, height):
    """A few bytes that say they are so large."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(width + 1))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


REFUSED = {
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("gone.png"),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "nothing": lambda path: path.write_bytes(b""),
    "a program": lambda path: path.write_bytes(eps()),
    "more pixels than Pillow warns of": lambda path: path.write_bytes(png_of(12000, 12000)),
    "more pixels than Pillow takes": lambda path: path.write_bytes(png_of(60000, 60000)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_image_that_is_none_is_refused(kind, root):
    path = root / "train/a/0.png"  # the first, whose header decides
    path.unlink()
    REFUSED[kind](path)
    with pytest.raises(DataError, match=rf"{path} cannot be decoded.\nExpected .*, got: .*\nRepl"):
        images_of(root)


@pytest.fixture
def annotated(root):
    """The test images of TinyImageNet: in one folder, beside a file that names their classes."""
    shutil.rmtree(root / "val")
    (root / "val/images").mkdir(parents=True)
    for number in range(3):
        write_image(root / f"val/images/{number}.png")
    return root


TAKEN = {
    "plain": b"0.png\ta\n1.png\tb\n",
    "blank lines": b"\n0.png\ta\n   \n\n1.png\tb\n\n",
    "a mark of the byte order": b"\xef\xbb\xbf0.png\ta\n1.png\tb\n",
    "other ends of lines": b"0.png\ta\r\n1.png\tb\r",
    "boxes": b"0.png\ta\t0\t0\t8\t8\n1.png\tb\t0\t0\t8\t8\n",
}


@pytest.mark.parametrize("kind", TAKEN)
def test_annotations_are_read(kind, annotated):
    (annotated / "val/val_annotations.txt").write_bytes(TAKEN[kind])
    assert images_of(annotated) == (8, 2)


WRONG = {
    "absolute": b"/etc/passwd\ta\n",
    "climbing": b"../../train/a/0.png\ta\n",
    "the folder above": b"..\ta\n",
    "named twice": b"0.png\ta\n0.png\tb\n",
    "no class": b"0.png\n",
    "parted by a space": b"0.png a\n",
    "a zero byte": b"0\0.png\ta\n",
    "UTF-16": "0.png\ta\n".encode("utf-16"),
    "UTF-16 without its mark": "0.png\ta\n".encode("utf-16-le"),
    "Latin-1": "0.png\té\n".encode("latin-1"),
    "an unknown class": b"0.png\tc\n",
    "no such file": b"9.png\ta\n",
    "a link that leads out": b"out.png\ta\n",
}


@pytest.mark.parametrize("kind", WRONG)
def test_annotations_that_name_no_image_of_the_set_are_refused(kind, annotated, tmp_path):
    write_image(tmp_path / "private.png")
    (annotated / "val/images/out.png").symlink_to(tmp_path / "private.png")
    (annotated / "val/val_annotations.txt").write_bytes(WRONG[kind])
    with pytest.raises(
        DataError, match=r"(line \d names no image|cannot be|the class).*\nExpected"
    ):
        images_of(annotated)
