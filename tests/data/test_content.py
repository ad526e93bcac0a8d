"""A set's content: of its files, read once, and again when they were replaced."""

import hashlib
import os
import shutil
import time

import numpy as np
import pytest
from tiny_sets import write_folder, write_parquet

from mipp.config import DataConfig
from mipp.data import content
from mipp.data.content import content_of

LONG_AGO = time.time() - 1000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read, in order."""
    names, plain = [], hashlib.file_digest

    def file_digest(file, kind):
        names.append(os.path.basename(file.name))
        return plain(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    return names


def age(root, seconds=LONG_AGO):
    for file in content.files_under(root):
        os.utime(file, (seconds, seconds))


def of(root, name="image-folder"):
    return content_of(DataConfig(name=name, root=str(root)))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "set"
    for part in ("train", "test"):
        write_folder(root / part, ("ant", "bee"), 2)
    age(root)
    return root


def test_other_bytes_of_the_same_size_are_another_content(folder):
    before = of(folder)
    file = folder / "train/ant/000.png"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert of(folder) != before


@pytest.mark.parametrize("change", ["new", "gone", "renamed"])
def test_other_files_are_another_content(folder, change):
    before, file = of(folder), folder / "train/ant/000.png"
    if change == "new":
        shutil.copy(file, file.with_name("more.png"))
    elif change == "gone":
        file.unlink()
    else:
        file.rename(folder / "train/bee/000.png")
    assert of(folder) != before


def test_a_copy_and_a_touched_set_have_the_same_content(folder, tmp_path):
    before = of(folder)
    age(folder, LONG_AGO - 1000)
    assert of(folder) == before
    assert of(shutil.copytree(folder, tmp_path / "a copy")) == before


def test_files_are_read_once_and_those_that_changed_again(folder, reads):
    of(folder)
    assert len(reads) == 8
    of(folder)
    assert len(reads) == 8
    file = folder / "test/bee/003.png"
    file.write_bytes(b"other")
    of(folder)
    assert reads[8:] == ["003.png"]


def test_a_file_that_has_just_changed_is_read_again(folder, reads):
    (folder / "test/bee/003.png").write_bytes(b"new")
    of(folder)
    of(folder)
    assert reads[8:] == ["003.png"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"train/ant/000.png": [1]}', "null"])
def test_damaged_hashes_are_made_anew(folder, cache, damage):
    before = of(folder)
    (kept,) = (cache / "content").iterdir()
    kept.write_text(damage)
    assert of(folder) == before


def test_without_a_place_for_hashes_files_are_read_every_time(folder, cache, reads):
    cache.write_text("no folder")
    assert of(folder) == of(folder)
    assert len(reads) == 16


def test_of_very_many_files_none_is_read(folder, reads, monkeypatch):
    monkeypatch.setattr(content, "READ_WHOLE", 7)
    before = of(folder)
    assert of(folder) == before
    file = folder / "train/ant/000.png"
    os.utime(file, (LONG_AGO, LONG_AGO + 1))
    assert of(folder) != before
    assert not reads


def test_every_set_that_lies_in_files_has_a_content(tmp_path):
    write_parquet(tmp_path / "train.parquet", np.zeros((2, 4, 4, 3), np.uint8), [0, 1])
    write_parquet(tmp_path / "test.parquet", np.zeros((2, 4, 4, 3), np.uint8), [0, 1])
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"1")
    found = [of(tmp_path, name) for name in ("parquet", "mnist", "mnist-deformed", "my_sets:load")]
    assert all(found)
    assert len({*found}) == 3  # deformations are of the seed


def test_sets_without_files_have_none():
    assert content_of(DataConfig(name="digits")) == ""
    assert content_of(DataConfig(name="my_sets:load")) == ""
